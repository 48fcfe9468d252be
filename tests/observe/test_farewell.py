"""Once to drain, twice to be done with it."""

import asyncio
import os
import signal

from common.observe.farewell import SIGNALS, Farewell


async def test_the_first_signal_asks_and_the_second_insists() -> None:
    asked: list[str] = []
    farewell = Farewell(lambda: asked.append("asked")).listen()
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(farewell.asked.wait(), 2.0)
        assert not farewell.insisted.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        assert await farewell.wait_insisted(2.0)
    finally:
        for number in SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)
    assert asked == ["asked"], "who is told once need not be told twice"


async def test_nobody_insists() -> None:
    assert not await Farewell().wait_insisted(0.01)
