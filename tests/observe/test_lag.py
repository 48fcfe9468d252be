"""How late the event loop is."""

import asyncio
import time

from common.observe import catalogue
from common.observe.lag import BEAT_S, LoopLag
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics


def test_a_held_up_loop_shows_until_it_was_scraped() -> None:
    metrics = Metrics(ProcessRole.ROUTER)

    async def body() -> None:
        with LoopLag(metrics) as lag:
            await asyncio.sleep(0)
            time.sleep(2 * BEAT_S)  # noqa: ASYNC251 - the fault under test
            await asyncio.sleep(1.2 * BEAT_S)
            lag.refresh()
            assert BEAT_S / 2 < metrics.value(catalogue.LOOP_LAG_SECONDS) < 10 * BEAT_S
            lag.refresh()
            assert metrics.value(catalogue.LOOP_LAG_SECONDS) == 0

    asyncio.run(body())
