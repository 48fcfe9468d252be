"""What a cluster may not leave behind, and what its logs may not say."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

CANARY = "zanzibar-canary-7731"
"""Sent as a prompt to every cluster; found nowhere outside the answer's own stream."""

_FORBIDDEN = re.compile(
    rf"Traceback \(most recent|never retrieved|was never awaited|Task was destroyed|tokens_conflict|{CANARY}"
)


def check_logs(folder: Path) -> None:
    """No crash, no forgotten task and no prompt text in any file of the run."""
    for file in sorted(folder.glob("*.log")):
        lines = file.read_text(errors="replace").splitlines()
        for number, line in enumerate(lines):
            if _FORBIDDEN.search(line):
                excerpt = "\n".join(lines[max(0, number - 2) : number + 40])
                raise AssertionError(f"{file.name} line {number + 1}:\n{excerpt}")


@contextmanager
def nothing_left() -> Iterator[None]:
    """Around a cluster: no child process and no temporary file stays. It gets a temporary folder of its own."""
    children_before = _children()
    usual, environment = tempfile.tempdir, os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(prefix="baton-test-") as folder:
        tempfile.tempdir = os.environ["TMPDIR"] = folder
        try:
            yield
        finally:
            tempfile.tempdir = usual
            os.environ.pop("TMPDIR")
            if environment is not None:
                os.environ["TMPDIR"] = environment
        files = sorted(str(path) for path in Path(folder).rglob("*"))
    left = _children() - children_before
    assert not left, f"processes left behind: {sorted(left)}"
    assert not files, f"files left behind: {files}"


def _children() -> set[tuple[int, str]]:
    return {(child.pid, child.name()) for child in psutil.Process().children(recursive=True)}
