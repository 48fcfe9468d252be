"""Keeps a process on certain cores: every thread that it has, and so every thread that those start."""

import os
from contextlib import suppress
from pathlib import Path


def usable_cores() -> frozenset[int]:
    """Cores that this process may use."""
    return frozenset(os.sched_getaffinity(0))


def pin(pid: int, cores: frozenset[int]) -> None:
    """Threads that end meanwhile are nobody's loss. Raises OSError when the cores are not ours."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), cores)
