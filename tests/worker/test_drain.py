"""DRAINING ends idle, or is cut: when its time is over, when somebody insists, at once when the worker is failing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from common.core.clock import SystemClock
from common.core.worker import LoadReport, PageCounts
from common.engine.look import Look
from common.engine.loop import Turns
from common.worker.drain import Drain


class Core:
    """Runs one sequence until it is told to be idle."""

    def __init__(self) -> None:
        self.running = 1

    def advance(self) -> bool:
        return False

    def take_events(self) -> tuple[object, ...]:
        return ()

    def look(self) -> Look:
        pages = PageCounts(total=8, free=8 - self.running, promised=0, referenced=self.running, cached=0)
        return Look(load=LoadReport(pages=pages, running_sequences=self.running), counters={})


class Role:
    """Leaver that writes down what it was asked."""

    def __init__(self) -> None:
        self.said: list[str] = []

    async def wait_idle(self) -> None:
        self.said.append("idle")

    async def cut(self) -> None:
        self.said.append("cut")


@asynccontextmanager
async def draining(core: Core, hurry: asyncio.Event) -> AsyncIterator[Drain]:
    turns: Turns[object] = Turns(core, deliver=lambda _events: None)

    async def turn() -> None:
        while True:
            turns.turn()
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    try:
        yield Drain(turns, look=core.look, heartbeat_s=0.01, hurry=hurry, clock=SystemClock())
    finally:
        turning.cancel()


async def test_it_ends_when_nothing_is_left() -> None:
    core, role = Core(), Role()
    async with draining(core, asyncio.Event()) as drain:
        assert drain.left_s is None
        drain.begin(30.0)
        running = asyncio.create_task(drain.run(role, is_failing=False))
        await asyncio.sleep(0.05)
        assert not running.done()
        core.running = 0
        drain.told.set()
        assert await asyncio.wait_for(running, 2.0) == 0
    assert role.said == ["idle"]


@pytest.mark.parametrize("how", ["grace", "hurry"])
async def test_what_is_left_is_cut_and_counted(how: str) -> None:
    core, role, hurry = Core(), Role(), asyncio.Event()
    async with draining(core, hurry) as drain:
        drain.begin(0.05 if how == "grace" else 30.0)
        if how == "hurry":
            asyncio.get_running_loop().call_later(0.05, hurry.set)
        assert await asyncio.wait_for(drain.run(role, is_failing=False), 2.0) == 1
    assert role.said == ["cut"]


async def test_a_loop_with_more_to_do_than_it_takes_on_is_drained_and_cut_all_the_same() -> None:
    """One long step, and behind it more calls than may wait."""
    core, role = Core(), Role()
    turns: Turns[object] = Turns(core, deliver=lambda _events: None, max_commands=4)
    for _ in range(8):
        turns.post(lambda: None)
    drain = Drain(turns, look=core.look, heartbeat_s=0.01, hurry=asyncio.Event(), clock=SystemClock())
    drain.begin(0.02)
    asyncio.get_running_loop().call_later(0.1, turns.turn)
    assert await asyncio.wait_for(drain.run(role, is_failing=False), 2.0) == 1
    assert role.said == ["cut"]


async def test_a_failing_worker_waits_for_nothing_and_asks_its_core_nothing() -> None:
    core, role = Core(), Role()
    async with draining(core, asyncio.Event()) as drain:
        drain.begin(30.0)
        assert await asyncio.wait_for(drain.run(role, is_failing=True), 2.0) == 1
    assert role.said == []


async def test_the_sooner_of_two_ends_counts() -> None:
    async with draining(Core(), asyncio.Event()) as drain:
        drain.begin(5.0)
        drain.begin(30.0)
        assert drain.left_s is not None
        assert drain.left_s <= 5.0
