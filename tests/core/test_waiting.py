"""Goal: a wait ends with what it waits for, with its time, or with somebody's hurry, and leaves nothing running.

Method: virtual time."""

import asyncio

import pytest

from common.core.waiting import wait_done, wait_set
from tests.sim.timeloop import TimeLoop, simulate


def test_an_event_is_waited_for_until_the_time_is_over() -> None:
    async def body(loop: TimeLoop) -> None:
        event = asyncio.Event()
        assert not await wait_set(event, 2.0)
        assert loop.time() == pytest.approx(2.0)
        loop.call_later(1.0, event.set)
        assert await wait_set(event, 2.0)
        assert loop.time() == pytest.approx(3.0)

    simulate(body)


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_without_time_one_look_is_taken(seconds: float) -> None:
    async def body(loop: TimeLoop) -> None:
        event = asyncio.Event()
        assert not await wait_set(event, seconds)
        event.set()
        assert await wait_set(event, seconds)
        assert loop.time() == 0.0

    simulate(body)


def test_work_is_waited_for_until_it_is_done_the_time_is_over_or_somebody_is_in_a_hurry() -> None:
    async def body(loop: TimeLoop) -> None:
        calm, hurry = asyncio.Event(), asyncio.Event()
        loop.call_later(4.0, hurry.set)
        assert await wait_done(asyncio.sleep(1.0), 2.0, hurry=calm)
        assert not await wait_done(asyncio.sleep(9.0), 2.0, hurry=hurry)
        assert loop.time() == pytest.approx(3.0)
        assert not await wait_done(asyncio.sleep(9.0), 2.0, hurry=hurry)
        assert loop.time() == pytest.approx(4.0)
        assert await wait_done(asyncio.sleep(0), 1.0, hurry=calm)

    simulate(body)


def test_what_the_work_raises_is_raised() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    async def body(_: TimeLoop) -> None:
        with pytest.raises(ZeroDivisionError):
            await wait_done(fail(), 1.0, hurry=asyncio.Event())

    simulate(body)


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_nothing_runs_on_behind_a_wait_that_is_over(is_cancelled: bool) -> None:
    async def body(_: TimeLoop) -> None:
        waiting = asyncio.create_task(wait_done(asyncio.sleep(9.0), 2.0, hurry=asyncio.Event()))
        await asyncio.sleep(1.0)
        if is_cancelled:
            waiting.cancel()
        await asyncio.wait({waiting})
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert waiting.cancelled() == is_cancelled

    simulate(body)
