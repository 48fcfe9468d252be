"""How late the event loop is."""

import asyncio

import pytest

from common.observe import catalogue
from common.observe.lag import BEAT_S, LoopLag
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics
from tests.sim.timeloop import TimeLoop, simulate


def test_a_held_up_loop_shows_until_it_was_scraped() -> None:
    metrics = Metrics(ProcessRole.ROUTER)

    async def body(loop: TimeLoop) -> None:
        with LoopLag(metrics) as lag:
            await asyncio.sleep(0)
            loop.stall(2 * BEAT_S)
            await asyncio.sleep(1.2 * BEAT_S)
            lag.refresh()
            assert metrics.value(catalogue.LOOP_LAG_SECONDS) == pytest.approx(BEAT_S)
            lag.refresh()
            assert metrics.value(catalogue.LOOP_LAG_SECONDS) == 0

    simulate(body)
