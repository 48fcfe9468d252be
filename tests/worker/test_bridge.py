"""Events cross from the step loop's thread in order, in batches, with one wake-up each."""

import asyncio
import threading

import pytest

from common.core.errors import InternalError
from common.worker.bridge import EventBridge


async def test_events_from_a_thread_arrive_in_order_and_none_is_lost() -> None:
    seen: list[int] = []
    bridge = EventBridge[int](asyncio.get_running_loop(), seen.extend)
    thread = threading.Thread(target=lambda: [bridge.carry((2 * step, 2 * step + 1)) for step in range(5000)])
    thread.start()
    async with asyncio.timeout(10):
        while len(seen) < 10_000:
            await asyncio.sleep(0.001)
    thread.join()
    assert seen == list(range(10_000))


async def test_what_waits_is_taken_with_one_wake_up() -> None:
    batches: list[tuple[int, ...]] = []
    bridge = EventBridge[int](asyncio.get_running_loop(), batches.append)
    for number in range(4):
        bridge.carry((number,))
    bridge.carry(())
    await asyncio.sleep(0)
    bridge.carry((4,))
    await asyncio.sleep(0)
    assert batches == [(0, 1, 2, 3), (4,)]


async def test_an_event_loop_that_reads_nothing_is_a_failure_not_a_leak() -> None:
    bridge = EventBridge[int](asyncio.get_running_loop(), lambda events: None, max_waiting=3)
    bridge.carry((1, 2))
    with pytest.raises(InternalError, match="unread"):
        bridge.carry((3, 4))
