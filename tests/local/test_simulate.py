"""Goal: a table holds the policies that its workers can follow, and no others. Method: the command, on two requests."""

import json
from pathlib import Path

import pytest

from services.local.exits import Exit
from tests.local.test_cli import invoke


@pytest.fixture
def trace(tmp_path: Path) -> str:
    file = tmp_path / "trace.jsonl"
    lines = [{"timestamp": ms, "input_length": 40, "output_length": 2} for ms in (0, 900)]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return str(file)


def test_one_worker_alone_hands_nothing_over(trace: str) -> None:
    code, text = invoke("simulate", "--trace", trace, "--workers", "1", "--load", "0.5")
    assert code == Exit.OK, text
    assert "always-remote is left out: there is nobody else to read" in text
    assert {"cost-model", "always-local", "round-robin"} <= {line.split(" ")[0] for line in text.splitlines()}
    assert "always-remote  " not in text


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--workers", "1", "--policy", "always-remote"), "always-remote needs two workers"),
        (("--prefill", "2"), "nobody writes answers here"),
        (("--workers", "0"), "nobody writes answers here"),
    ],
)
def test_workers_that_can_follow_no_policy_are_refused(trace: str, flags: tuple[str, ...], words: str) -> None:
    code, text = invoke("simulate", "--trace", trace, *flags)
    assert (code, words in text) == (Exit.USAGE, True), text
