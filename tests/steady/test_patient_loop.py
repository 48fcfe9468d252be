"""Goal: a stand-still is nobody's fault. Method: the process stops itself, and another wakes it a second later."""

import asyncio
import os
import subprocess
import threading
import time

import pytest

from tests.steady.patient_loop import PatientLoop

STOOD_STILL_S = 1.0


def stand_still() -> None:
    """All threads of this process stop, as when the machine is taken away."""
    me = os.getpid()
    waker = subprocess.Popen(["/bin/sh", "-c", f"sleep 0.2; kill -STOP {me}; sleep {STOOD_STILL_S}; kill -CONT {me}"])
    waker.wait(30)


def lost_s(*, when: str) -> float:
    """Seconds that passed and that the loop did not count."""

    async def program() -> float:
        loop, began = asyncio.get_running_loop(), time.monotonic()
        before = loop.time()
        if when == "amid a wait":
            await asyncio.to_thread(stand_still)
        else:
            stand_still()
        await asyncio.sleep(0)
        return (time.monotonic() - began) - (loop.time() - before)

    with asyncio.Runner(loop_factory=PatientLoop) as runner:
        return runner.run(program())


@pytest.mark.parametrize("when", ["amid a wait", "amid a callback"])
def test_no_time_passes_while_the_process_stands_still(when: str) -> None:
    assert lost_s(when=when) > STOOD_STILL_S * 0.5


def test_what_is_never_done_still_meets_its_deadline() -> None:
    with asyncio.Runner(loop_factory=PatientLoop) as runner, pytest.raises(TimeoutError):
        runner.run(asyncio.wait_for(asyncio.Event().wait(), 0.3))


def test_a_sleep_takes_no_less_than_the_systems_clock_says() -> None:
    async def program() -> float:
        began = time.monotonic()
        await asyncio.sleep(0.6)  # longer than one look
        return time.monotonic() - began

    with asyncio.Runner(loop_factory=PatientLoop) as runner:
        assert runner.run(program()) >= 0.6 - 0.001


def test_work_counts_though_nothing_is_waited_for() -> None:
    async def program() -> float:
        loop = asyncio.get_running_loop()
        began, until = loop.time(), time.thread_time() + 0.5
        while time.thread_time() < until:
            pass
        return loop.time() - began

    with asyncio.Runner(loop_factory=PatientLoop) as runner:
        assert runner.run(program()) >= 0.5


def test_another_thread_reads_its_time_and_does_not_set_it() -> None:
    async def program() -> None:
        loop = asyncio.get_running_loop()
        read: list[float] = []
        reader = threading.Thread(target=lambda: read.append(loop.time()))
        before = loop.time()
        reader.start()
        await asyncio.to_thread(reader.join, 30)
        assert before <= read[0] <= loop.time()

    with asyncio.Runner(loop_factory=PatientLoop) as runner:
        runner.run(program())


def test_every_loop_of_a_test_process_is_one() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    assert isinstance(loop, PatientLoop)
