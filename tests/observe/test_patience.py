"""Waiting for others is not cut short by time that this process lost itself: virtual time, and pauses of the loop."""

import asyncio

import pytest

from common.observe.lag import LoopLag, never_late
from common.observe.metric import ProcessRole
from common.observe.patience import MAX_TIMES, Patience
from common.observe.registry import Metrics
from tests.sim.timeloop import TimeLoop, simulate

PATIENCE_S = 1.0


async def _wait(loop: TimeLoop, lag: LoopLag, answer_s: float) -> float | None:
    """When an answer was taken that came `answer_s` after the question; None: nobody waited so long."""
    answered = asyncio.Event()
    loop.call_later(answer_s, loop.call_soon, answered.set)  # read in one turn of the loop, told in the next
    try:
        async with Patience(PATIENCE_S, lag.lost_s):
            await answered.wait()
    except TimeoutError:
        return None
    return loop.time()


def test_who_does_not_answer_is_given_up_on_time() -> None:
    async def program(loop: TimeLoop) -> None:
        with LoopLag(Metrics(ProcessRole.ROUTER)) as lag:
            assert await _wait(loop, lag, 5.0) is None
        assert loop.time() == PATIENCE_S

    simulate(program)


@pytest.mark.parametrize("stall_s", [0.7, 1.0, 3.0])
def test_an_answer_that_came_while_the_loop_stood_still_is_taken(stall_s: float) -> None:
    async def program(loop: TimeLoop) -> None:
        with LoopLag(Metrics(ProcessRole.ROUTER)) as lag:
            loop.call_later(0.4, loop.stall, stall_s)
            assert await _wait(loop, lag, 0.6) == pytest.approx(0.4 + stall_s)

    simulate(program)


def test_a_stall_gives_no_more_than_it_took() -> None:
    async def program(loop: TimeLoop) -> None:
        with LoopLag(Metrics(ProcessRole.ROUTER)) as lag:
            loop.call_later(0.4, loop.stall, 3.0)
            assert await _wait(loop, lag, 9.0) is None
        assert 3.4 < loop.time() <= PATIENCE_S + 3.0

    simulate(program)


def test_a_loop_that_is_always_late_is_not_waited_for_without_end() -> None:
    async def program(loop: TimeLoop) -> None:
        with pytest.raises(TimeoutError):
            async with Patience(PATIENCE_S, lambda since: 100.0):
                await asyncio.Event().wait()
        assert loop.time() == MAX_TIMES * PATIENCE_S

    simulate(program)


def test_who_is_heard_again_and_again_is_waited_for_as_long() -> None:
    async def program(loop: TimeLoop) -> None:
        async with Patience(PATIENCE_S, never_late) as patience:
            for _ in range(5):
                await asyncio.sleep(0.9 * PATIENCE_S)
                patience.pause()
                await asyncio.sleep(3 * PATIENCE_S)  # it is being heard
                patience.renew()
            began = loop.time()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.Event().wait()
            assert loop.time() == pytest.approx(began + PATIENCE_S)

    simulate(program)


def test_pauses_from_before_are_not_counted() -> None:
    async def program(loop: TimeLoop) -> None:
        with LoopLag(Metrics(ProcessRole.ROUTER)) as lag:
            loop.call_later(0.1, loop.stall, 2.0)
            await asyncio.sleep(1.0)
            assert lag.lost_s(0.0) == pytest.approx(1.85)  # of two seconds, those after the beat that was due
            since = loop.time()
            assert lag.lost_s(since) == 0.0
            await asyncio.sleep(5.0)
            assert lag.lost_s(since) == 0.0

    simulate(program)
