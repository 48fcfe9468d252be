"""The pool of the native operators on cores that it does not have for itself: its threads sleep where they wait, hear
of every job, and keep their turns.
"""

import os
import subprocess
import sys

import pytest

from kernels.cpu.library import load

needs_native = pytest.mark.skipif(load().native is None, reason=load().reason)
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the standard library decides how one waits")

JOBS = """
import os, time, torch
from kernels.dispatch import native
from kernels.cpu.threads import set_native_threads
from kernels.linear import linear, prepare

os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
weight = prepare(torch.randn(768, 512).to(torch.bfloat16))
x_TC = torch.randn(8, 512).to(torch.bfloat16)
alone = linear(x_TC, weight)
set_native_threads(native(), 4)
for number in range(1000):
    if number % 4 == 0:
        time.sleep(0.0005)
    assert torch.equal(linear(x_TC, weight), alone)
"""


@needs_native
@needs_linux
def test_no_thread_of_the_pool_gives_its_turn_away() -> None:
    """On a core that others want too, a thread that yields waits for a slice of theirs: a step of eight answers yielded
    a hundred times. Nothing in the library asks the system for it."""
    native = load().native
    assert native is not None
    assert b"sched_yield" not in native.path.read_bytes()


@needs_native
def test_threads_that_slept_hear_of_every_job() -> None:
    """Four threads on one core, with pauses in which all of them go to sleep: a wake that is missed stands still."""
    subprocess.run([sys.executable, "-c", JOBS], check=True, timeout=120, env=os.environ)
