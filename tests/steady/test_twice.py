"""Goal: a step passes when what failed in it passes alone, and says so. Method: the script on made-up tests."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.steady.twice import MAX_AGAIN

pytestmark = pytest.mark.timeout(600)  # a whole pytest, and workers of its own, several times

UNSTEADY = """
def test_unsteady_{number}():
    seen = pathlib.Path({folder!r}) / "seen_{number}"
    was_seen = seen.exists()
    seen.touch()
    assert was_seen
"""
WRONG = """
def test_wrong_{number}():
    assert False
"""
RIGHT = """
def test_right_{number}():
    pass
"""


@dataclass(frozen=True)
class Ended:
    status: int
    lines: list[str]

    @property
    def closing(self) -> str:
        return self.lines[-1]

    def told(self, beginning: str) -> list[str]:
        return [line for line in self.lines if line.startswith(beginning)]


def run(folder: Path, tests: dict[str, int], *options: str) -> Ended:
    """So many tests of each kind."""
    text = "import pathlib\n" + "".join(
        kind.format(number=number, folder=str(folder)) for kind, count in tests.items() for number in range(count)
    )
    (folder / "test_made.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "tests.steady.twice", "-c", str(folder / "pytest.ini"), "-p", "xdist", *options]
    bare = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ended = subprocess.run([*command, str(folder)], env=bare, check=False, stdout=subprocess.PIPE, text=True)
    return Ended(ended.returncode, ended.stdout.rstrip("\n").split("\n"))


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one process", "two"])
def test_a_few_that_pass_alone_pass_and_are_named(tmp_path: Path, options: tuple[str, ...]) -> None:
    ended = run(tmp_path, {UNSTEADY: MAX_AGAIN, RIGHT: 4}, *options)
    assert ended.status == 0
    (line,) = ended.told("UNSTEADY")
    assert all(f"test_made.py::test_unsteady_{number}" in line for number in range(MAX_AGAIN))
    assert "test_right" not in line
    assert f"{MAX_AGAIN} passed" in ended.closing, "only those ran again"


def test_what_fails_twice_has_failed(tmp_path: Path) -> None:
    ended = run(tmp_path, {UNSTEADY: 1, WRONG: 1, RIGHT: 2})
    assert ended.status == 1
    assert ended.told("UNSTEADY") == []
    assert "1 failed, 1 passed" in ended.closing


def test_many_failures_are_not_tried_again(tmp_path: Path) -> None:
    ended = run(tmp_path, {UNSTEADY: MAX_AGAIN + 1, RIGHT: 1})
    assert ended.status == 1
    assert ended.told("Once more") == []
    assert f"{MAX_AGAIN + 1} failed, 1 passed" in ended.closing


def test_a_run_without_failures_runs_once(tmp_path: Path) -> None:
    ended = run(tmp_path, {RIGHT: 2})
    assert (ended.status, ended.told("Once more"), ended.told("UNSTEADY")) == (0, [], [])
    assert "2 passed" in ended.closing


def test_a_file_that_cannot_be_read_fails(tmp_path: Path) -> None:
    """pytest calls it interrupted, whatever passed beside it."""
    (tmp_path / "test_broken.py").write_text("import nothing_of_this_name\n")
    ended = run(tmp_path, {RIGHT: 1})
    assert ended.status not in {0, 1}
    assert ended.told("Once more") == []
