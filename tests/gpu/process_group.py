"""A process with a deadline, and all that it starts: nothing of them is left when the next one begins.

What a part of a run starts keeps the GPU's memory and its multiprocessors after the part was killed, and the next part
would be measured beside it. So a part leads a group of its own, which is ended as a whole, and what a part starts ends
with it, wherever it hangs: the kernel sees to that.
"""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
GONE_S = 10.0
"""Chosen: a process with gigabytes on a GPU takes a second or two to end."""

SET_DEATH_SIGNAL = 1
"""prctl's PR_SET_PDEATHSIG."""


def run_group(command: Sequence[str], *, limit_s: float, stdout: IO[bytes], stderr: IO[bytes]) -> int | None:
    """The status it ended with; None: it was cut off after `limit_s`. Its group is gone, as far as the kernel can."""
    child = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True
    )
    try:
        return child.wait(timeout=limit_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _end(child)


def _end(child: "subprocess.Popen[bytes]") -> None:
    """What hangs within the driver may outlive this; whoever calls goes on all the same."""
    end = time.monotonic() + GONE_S
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        child.wait(timeout=GONE_S)
    while members(child.pid) and time.monotonic() < end:
        time.sleep(0.02)


def members(group: int) -> list[int]:
    """Processes of a group that still run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended since it was listed
            state, _, own_group, *_ = entry.read_text().rpartition(")")[2].split()
            if int(own_group) == group and state not in "ZX":
                found.append(int(entry.parent.name))
    return found


def die_with_parent() -> None:
    """For what a part starts, in its first line: killed when the process that started it ends, however that ends."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(SET_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
