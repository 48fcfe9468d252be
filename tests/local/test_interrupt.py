"""Goal: one signal ends in order, two end at once, and a lost terminal ends too. Method: real signals, to ourselves."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from services.local.interrupt import Interrupt
from services.local.topology import ROOT


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_cancels_the_work_and_lets_it_clean_up(number: signal.Signals) -> None:
    told: list[str] = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), number)
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(0)
            told.append("cleaned")

    assert await Interrupt(lambda: told.append("asked")).guard(work())
    assert told == ["asked", "cleaned"]


async def test_a_second_signal_insists() -> None:
    interrupt = Interrupt(lambda: None)

    async def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(10)
        finally:
            assert not interrupt.insisted.is_set()
            os.kill(os.getpid(), signal.SIGINT)
            async with asyncio.timeout(5):
                await interrupt.insisted.wait()

    assert await interrupt.guard(work())


async def test_work_that_ends_by_itself_was_not_interrupted_and_leaves_no_handler() -> None:
    async def work() -> None:
        await asyncio.sleep(0)

    assert not await Interrupt(lambda: None).guard(work())
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_an_error_of_the_work_passes_through() -> None:
    async def work() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await Interrupt(lambda: None).guard(work())


# Says that it runs, and goes on printing while it ends: to a pipe that nobody reads any more.
TALKER = """
import asyncio
from services.local.interrupt import Interrupt

async def work():
    try:
        print("runs", flush=True)
        await asyncio.sleep(30)
    finally:
        print("ending", flush=True)

raise SystemExit(0 if asyncio.run(Interrupt(lambda: print("asked", flush=True)).guard(work())) else 1)
"""


def test_a_terminal_that_is_gone_does_not_stop_the_end() -> None:
    with subprocess.Popen([sys.executable, "-c", TALKER], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"runs\n"
        process.stdout.close()
        process.send_signal(signal.SIGHUP)
        assert process.wait(10) == 0
