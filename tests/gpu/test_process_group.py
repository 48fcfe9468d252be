"""Parts of a run leave nobody behind: not at their end, not at their deadline, not when they are killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.architecture.source import ROOT
from tests.gpu.process_group import members, run_group

CHILD = """
import sys, time
from tests.gpu.process_group import die_with_parent
if sys.argv[1] == "faithful":
    die_with_parent()
print("here", flush=True)
time.sleep(60)
"""
PARENT = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}, sys.argv[2]], stdout=subprocess.PIPE, text=True)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(float(sys.argv[1]))
"""
"""Starts a process that sleeps, says which, and goes on for so long itself."""


def runs(pid: int) -> bool:
    """And is not merely waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def ended(tmp_path: Path, lasts_s: float, limit_s: float) -> tuple[int | None, int]:
    """How the parent ended, and the child's number."""
    out = tmp_path / "out"
    with out.open("wb") as stdout:
        command = [sys.executable, "-c", PARENT, str(lasts_s), "stray"]
        status = run_group(command, limit_s=limit_s, stdout=stdout, stderr=stdout)
    return status, int(out.read_text())


def test_what_a_part_started_is_gone_when_it_ended_and_when_its_time_was_up(tmp_path: Path) -> None:
    for lasts_s, limit_s, status in ((0.0, 20.0, 0), (60.0, 2.0, None)):
        found, child = ended(tmp_path, lasts_s, limit_s)
        assert found == status
        assert not runs(child)


def test_a_child_ends_with_its_parent_however_that_ends() -> None:
    """As a way of sharing a GPU that is killed at its own deadline, within a part that goes on."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, "60", "faithful"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert runs(child)
    parent.send_signal(signal.SIGKILL)
    parent.communicate(timeout=10)
    deadline = time.monotonic() + 10
    while runs(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not runs(child)


def test_a_group_counts_those_that_run() -> None:
    assert os.getpid() in members(os.getpgrp())
    assert members(2**22 + 1) == []
