"""Two real processes: whole endpoints over gRPC and each channel that crosses a process border."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from tests.steady.patient_loop import now

FROZEN_S = 4.0
"""Two unanswered tries of an offer, or one frame's deadline, as two_processes.LIMITS set them; and a loaded machine."""

pytestmark = [pytest.mark.cluster, pytest.mark.calm, pytest.mark.parametrize("channel", ["gloo", "same_host"])]


async def test_real_bytes_between_two_processes(channel: str) -> None:
    """Whole endpoints over gRPC and the channel: the child promises pages, the parent ships them. Prints the rate."""
    await talk(channel, "whole")


@pytest.mark.parametrize("after_runs", [0, 1, 3])
async def test_a_receiver_that_is_killed_is_noticed_within_two_seconds(channel: str, after_runs: int) -> None:
    await talk(channel, "killed", after_runs)


@pytest.mark.parametrize("after_runs", [2])
async def test_a_receiver_that_is_frozen_is_given_up_at_the_deadline(channel: str, after_runs: int) -> None:
    """Its sockets stay open, so nothing but a deadline tells."""
    await talk(channel, "frozen", after_runs)


async def talk(channel: str, how: str, after_runs: int = 0) -> None:
    from tests.transfer.two_processes import NUM_RUNS, sending

    child = subprocess.Popen(  # noqa: ASYNC220  # starts at once; its output is read on a thread
        [sys.executable, "-m", "tests.transfer.two_processes", channel],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        assert child.stdout is not None
        line = await asyncio.to_thread(child.stdout.readline)
        async with sending(line.strip(), channel) as session:
            for number in range(after_runs if how != "whole" else NUM_RUNS):
                await session.ship(number)
            if how != "whole":
                child.send_signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
                started = now()
                assert await session.is_failed()
                assert now() - started < (2.0 if how == "killed" else FROZEN_S)
                return
            outcome = await session.finish()
            assert outcome.state.value == "done", outcome
            assert await asyncio.to_thread(child.stdout.readline) == "all pages right\n"
    finally:
        child.kill()
        child.wait(timeout=10)
        for stream in (child.stdin, child.stdout):
            assert stream is not None
            stream.close()
