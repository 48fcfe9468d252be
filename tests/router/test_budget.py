"""The retry budget: what it costs to wait, and not to wait to the end."""

import asyncio

import pytest

from services.router.budget import RetryBudget
from tests.sim.timeloop import LoopClock, TimeLoop, simulate


def test_retries_that_were_given_up_leave_no_debt_to_those_that_follow() -> None:
    async def program(loop: TimeLoop) -> None:
        budget = RetryBudget(clock=LoopClock(loop), capacity=2.0, per_second=1.0)
        waiting = [asyncio.create_task(budget.take()) for _ in range(1000)]
        await asyncio.sleep(0.5)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        began = loop.time()
        await budget.take()
        assert loop.time() - began <= 1.0

    simulate(program, limit_s=2000.0)


def test_a_retry_without_a_token_waits_for_the_time_that_makes_one() -> None:
    async def program(loop: TimeLoop) -> None:
        budget = RetryBudget(clock=LoopClock(loop), capacity=1.0, per_second=2.0)
        await budget.take()
        assert loop.time() == 0.0
        await budget.take()
        assert loop.time() == pytest.approx(0.5)

    simulate(program, limit_s=60.0)
