"""Once to drain, twice to be done with it; a terminal that closes is no reason to cut."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest

from common.observe.early import SIGNALS, heard
from common.observe.farewell import Farewell


@pytest.fixture
async def farewell() -> AsyncIterator[Farewell]:
    """One that listens. Afterwards every signal means what it meant."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield Farewell().listen()
    for number, handler in before.items():
        asyncio.get_running_loop().remove_signal_handler(number)
        signal.signal(number, handler)


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


async def test_a_terminal_that_closes_asks_and_never_insists(farewell: Farewell) -> None:
    """The kernel tells the group in front, the shell its jobs: one terminal, two signals."""
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.wait_for(farewell.asked.wait(), 2.0)
    assert not await farewell.wait_insisted(0.1)


async def test_what_nohup_started_outlives_its_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda _number: signal.SIG_IGN)
    assert heard() == (signal.SIGTERM, signal.SIGINT)


async def test_nobody_insists() -> None:
    assert not await Farewell().wait_insisted(0.01)
