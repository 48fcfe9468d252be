"""The training text: the Python standard library's own sources, as found beside the running interpreter."""

import ast
import sysconfig
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

# Held out of training and of the tokenizer: modules of the everyday kind, present since Python 3.11.
HELD_OUT = frozenset(
    {
        "asyncio/queues.py",
        "concurrent/futures/thread.py",
        "configparser.py",
        "contextlib.py",
        "csv.py",
        "fileinput.py",
        "graphlib.py",
        "heapq.py",
        "http/cookies.py",
        "json/decoder.py",
        "sched.py",
        "secrets.py",
        "shelve.py",
        "shlex.py",
        "textwrap.py",
        "trace.py",
        "wsgiref/headers.py",
        "zipapp.py",
    }
)
# Third-party code, character tables and documentation stored as strings: not what a reader would call Python.
SKIPPED_FOLDERS = frozenset({"site-packages", "dist-packages", "encodings", "pydoc_data", "__pycache__"})
TEST_FOLDERS = frozenset({"test", "tests", "idle_test"})
MAX_TASK_LINES = 60


class Share(StrEnum):
    """Which part of the corpus a source file belongs to."""

    LIBRARY = "library"
    TESTS = "tests"
    HELD_OUT = "held_out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file: its path below the standard library's folder, in POSIX spelling, and its text."""

    path: str
    text: str
    share: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A made-up exchange: what a user might ask for, and the library's own function as the answer."""

    request: str
    answer: str


def share_of(path: str) -> Share:
    """Decide a file's share from its relative path alone, so that every machine splits alike."""
    if path in HELD_OUT:
        return Share.HELD_OUT
    return Share.TESTS if TEST_FOLDERS & set(path.split("/")) else Share.LIBRARY


def read_sources(shares: frozenset[Share] = frozenset(Share), *, folder: Path | None = None) -> list[Source]:
    """Read the Python files of these shares below `folder` (default: the interpreter's library), sorted by path.

    Files that are not valid UTF-8 Python of this version are left out: they are deliberately broken test inputs.
    """
    root = folder or Path(sysconfig.get_path("stdlib"))
    sources = []
    for file in sorted(root.rglob("*.py")):
        path = file.relative_to(root).as_posix()
        if SKIPPED_FOLDERS & set(path.split("/")) or path.startswith(("config-", "_sysconfigdata")):
            continue
        share = share_of(path)
        if share in shares and (text := _valid_text(file)):
            sources.append(Source(path=path, text=text, share=share))
    return sources


def _valid_text(file: Path) -> str | None:
    try:
        text = file.read_text(encoding="utf-8").replace("\r\n", "\n")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library holds a few invalid escapes that are no concern here
            ast.parse(text)
    except (UnicodeDecodeError, SyntaxError, ValueError):
        return None
    return text


def read_tasks(sources: list[Source]) -> list[Task]:
    """One task per documented function of the library share, in file order."""
    library = [source for source in sources if source.share is Share.LIBRARY]
    return [task for source in library for task in _tasks_of(source.text)]


def _tasks_of(text: str) -> Iterator[Task]:
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.end_lineno is None:
            continue
        summary = (ast.get_docstring(node) or "").split("\n")[0].strip()
        body = lines[node.lineno - 1 : node.end_lineno]
        if summary and len(body) <= MAX_TASK_LINES:
            request = f"Write a Python function named {node.name}. {summary}"
            yield Task(request=request, answer=textwrap.dedent("\n".join(body)) + "\n")
