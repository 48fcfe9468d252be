"""`baton` as a person runs it: a process, its output, its exit code, and what it leaves behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from common.core.clock import SystemClock
from services.local.topology import ROOT

BATON = (sys.executable, "-m", "services.local")
CLOCK = SystemClock()


def baton(
    *arguments: str, text: str = "", environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """One command, to its end."""
    return subprocess.run(
        [*BATON, *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80", **(environment or {})},
        input=text,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


class Up:
    """A running `baton up` whose every file is below `folder`."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.lines: list[str] = []
        self._seen: dict[int, psutil.Process] = {}

    def wait_line(self, beginning: str) -> str:
        """Read on until a line that holds this; a test's own timeout bounds it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if beginning in line:
                self.look()
                return line.strip()
        raise AssertionError("\n".join(self.lines))

    def look(self) -> list[psutil.Process]:
        """The children that run now; all that were ever seen are remembered."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        self._seen.update({each.pid: each for each in found})
        return found

    def child(self, words: str) -> psutil.Process:
        """The one child whose command line holds these words."""
        (found,) = [each for each in self.look() if words in " ".join(each.cmdline())]
        return found

    def end(self, number: signal.Signals) -> int:
        """Send a signal; the exit status, negative for a signal."""
        self.look()
        self.process.send_signal(number)
        self.lines += self.process.communicate(timeout=60)[0].splitlines()
        return self.process.returncode

    def check_nothing_is_left(self) -> None:
        """No process (a zombie waits for its reaper only), no file."""
        deadline = CLOCK.monotonic() + 20
        while CLOCK.monotonic() < deadline and (self._alive() or any(self.folder.iterdir())):
            psutil.wait_procs(self._alive(), timeout=0.05)
        assert not self._alive()
        assert list(self.folder.iterdir()) == []

    def _alive(self) -> list[psutil.Process]:
        return [each for each in self._seen.values() if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


@contextmanager
def up(folder: Path, *arguments: str) -> Iterator[Up]:
    """`baton up` for the block; ended by force if the block has not."""
    process = subprocess.Popen(
        [*BATON, "up", *arguments],
        cwd=folder,
        env={**os.environ, "COLUMNS": "80", "TMPDIR": str(folder), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield Up(process, folder)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=30)


def widest(text: str, *, besides: Sequence[str] = ()) -> int:
    """Columns of the longest line, lines with these words left out."""
    lines = [line for line in text.splitlines() if not any(words in line for words in besides)]
    return max((len(line.rstrip()) for line in lines), default=0)
