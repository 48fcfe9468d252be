"""Goal: a router that nobody asks costs Redis and itself little, and the first question finds no old replica.

Method: production mirrors in virtual time, on a store that counts how often its events are read.
"""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

from common.directory.memory_store import MemoryServer, MemoryStore
from common.directory.pace import SHARE
from common.directory.store import Entry, EntryId
from common.observe import catalogue
from tests.directory.cluster import SETTINGS, Router, Worker, published
from tests.sim.timeloop import LoopClock, TimeLoop, simulate

QUIET_S = SETTINGS.quiet_poll_s / SHARE
"""From here on pauses grow no more."""


class CountedStore(MemoryStore):
    """Counts looks at the event stream."""

    num_looks = 0

    async def entries(self, key: str, after: EntryId, max_entries: int) -> tuple[Entry, ...]:
        self.num_looks += 1
        return await super().entries(key, after, max_entries)


class World:
    """One router, one worker."""

    def __init__(self, loop: TimeLoop) -> None:
        clock = LoopClock(loop)
        server = MemoryServer(clock)
        self.store = CountedStore(server, "router-0")
        self.router = Router(self.store, clock)
        self.worker = Worker(MemoryStore(server, "decode-0"), clock)
        self.now = clock.monotonic

    async def looks_in(self, seconds: float) -> int:
        before = self.store.num_looks
        await asyncio.sleep(seconds)
        return self.store.num_looks - before


def in_world(body: Callable[[World], Awaitable[None]]) -> None:
    async def program(loop: TimeLoop) -> None:
        world = World(loop)
        runs = (world.router.mirror.run(), world.worker.registration.run())
        tasks = [asyncio.create_task(run) for run in runs]
        await body(world)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    simulate(program, seed=0, limit_s=600)


def test_a_mirror_that_nobody_asks_looks_four_times_a_heartbeat() -> None:
    async def body(world: World) -> None:
        assert await world.looks_in(0.5) >= 0.4 / SETTINGS.poll_s
        await asyncio.sleep(QUIET_S)
        assert await world.looks_in(10.0) <= 4.5 * 10.0 / SETTINGS.heartbeat_s
        assert not world.router.is_stale

    in_world(body)


def test_the_first_question_after_a_quiet_time_starts_a_look() -> None:
    """What it finds is at most as old as the pause, and what comes after it is as new as ever."""

    async def body(world: World) -> None:
        await asyncio.sleep(2 * QUIET_S)
        world.worker.registration.publish(published(1))
        await asyncio.sleep(SETTINGS.quiet_poll_s + SETTINGS.poll_s)
        assert world.router.runs(1) == {"decode-0": 1}
        assert await world.looks_in(0.01) == 1
        assert await world.looks_in(0.5) >= 0.4 / SETTINGS.poll_s

    in_world(body)


def test_pauses_grow_with_the_time_since_the_last_question() -> None:
    """An answer of four seconds costs half of the looks of an even pace, and no look is late by more than its share."""

    async def body(world: World) -> None:
        world.router.runs(1)
        asked, before, looked_at = world.now(), world.store.num_looks, [world.now()]
        while world.now() < asked + 4.0:
            if await world.looks_in(0.005):
                looked_at.append(world.now())
        assert world.store.num_looks - before <= 0.55 * 4.0 / SETTINGS.poll_s
        for earlier, later in pairwise(looked_at):
            assert later - earlier <= max(SETTINGS.poll_s, SHARE * (earlier - asked)) + 0.02

    in_world(body)


def test_questions_that_keep_coming_are_answered_at_the_pace_that_was_set() -> None:
    async def body(world: World) -> None:
        await asyncio.sleep(QUIET_S)
        before = world.store.num_looks
        for _ in range(20):
            world.router.runs(1)
            await asyncio.sleep(0.4)
        assert world.store.num_looks - before >= 0.9 * 8.0 / SETTINGS.poll_s

    in_world(body)


def test_a_scrape_shows_the_age_of_the_last_answer_and_not_the_age_it_had() -> None:
    async def body(world: World) -> None:
        await asyncio.sleep(2 * QUIET_S)
        ages = set()
        for _ in range(7):
            await asyncio.sleep(0.03)
            world.router.mirror.show_age()
            ages.add(round(world.router.metrics.value(catalogue.DIRECTORY_STALENESS_SECONDS), 2))
        assert max(ages) > SETTINGS.poll_s
        assert max(ages) <= SETTINGS.quiet_poll_s + 0.01

    in_world(body)
