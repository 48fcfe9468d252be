"""The committed demo model's quality: loss on unseen files, and recognisable Python after a header."""

import ast
import json
from functools import cache
from pathlib import Path

import pytest
import torch

from models.build.corpus import Share, read_sources
from models.build.evaluate import continue_text, held_out_loss

DEMO = Path(__file__).parents[2] / "models" / "demo"
# The manifest states what the run reached; the bars leave room for another Python version's text of the same files.
# Guessing evenly costs 8.3 nats; the quick files are short and cost more per token than the whole set.
MAX_NATS_PER_TOKEN, MAX_QUICK_NATS_PER_TOKEN = 3.0, 3.35
QUICK_FILES = ("secrets.py", "sched.py", "shelve.py")
HEADERS = (
    "def read_json(path):\n",
    "def walk_files(root, suffix):\n",
    "class Stack:\n    def __init__(self):\n",
    "def is_prime(n):\n",
)


@cache
def continuation(header: str) -> str:
    """What the model adds to a header, greedily."""
    torch.set_num_threads(1)
    return continue_text(DEMO, header, tokens=64)


def test_loss_on_unseen_files_is_below_the_bar() -> None:
    """Three short held-out modules, read as this Python has them."""
    torch.set_num_threads(1)
    sources = [source for source in read_sources(frozenset({Share.HELD_OUT})) if source.path in QUICK_FILES]
    assert held_out_loss(DEMO, sources).per_token < MAX_QUICK_NATS_PER_TOKEN


@pytest.mark.slow
def test_loss_on_every_held_out_file_is_what_the_manifest_says() -> None:
    """Within 0.1 nats: the files' text changes a little between Python versions."""
    measured = held_out_loss(DEMO, read_sources(frozenset({Share.HELD_OUT})))
    stated = json.loads((DEMO / "manifest.json").read_text(encoding="utf-8"))["held_out"]["per_token"]
    assert measured.per_token == pytest.approx(stated, abs=0.1)
    assert measured.per_token < MAX_NATS_PER_TOKEN


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_is_continued_with_an_indented_body(header: str) -> None:
    """The first line that follows is deeper than the last line of the header."""
    last_line = header.rstrip("\n").split("\n")[-1]
    first_line = next(line for line in continuation(header).split("\n") if line.strip())
    assert _depth(first_line) > _depth(last_line), first_line


def test_most_continuations_begin_as_python_that_parses() -> None:
    """Three of four headers with at least the first three lines of their continuation are a valid module."""
    assert sum(_num_valid_lines(header, continuation(header)) >= 3 for header in HEADERS) >= 3


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _num_valid_lines(header: str, body: str) -> int:
    """The most lines of `body`, counted from its start, with which the header still parses."""
    lines = body.split("\n")
    for kept in range(len(lines), 0, -1):
        try:
            ast.parse(header + "\n".join(lines[:kept]) + "\n")
        except SyntaxError:
            continue
        return kept
    return 0
