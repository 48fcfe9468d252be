"""Goal: names of the dead leave their set, those of the living never do. Method: many owners around one store."""

import asyncio
import random

import pytest

from common.core.ids import Epoch, RouterId, RouterRef, WorkerId
from common.core.queue import QueueReport
from common.directory.keys import Keys
from common.directory.memory_store import MemoryServer, MemoryStore
from common.directory.neighbour import LOOK_S, MAX_NAMES, Neighbour, following
from common.directory.queue_board import QueueBoard
from common.directory.store import Decide, Join, Put, Store
from tests.directory.cluster import SETTINGS, Router, Worker
from tests.sim.timeloop import LoopClock, TimeLoop, simulate

KEYS = Keys(SETTINGS.cluster)


def test_the_others_follow_in_a_ring() -> None:
    assert following("c", ["b", "a", "d", "c", "e"]) == ("d", "e", "a", "b")
    assert following("x", ["a"]) == ("a",)
    assert following("x", ["x"]) == ()


async def _join(server: MemoryServer, key: str, names: list[str]) -> None:
    await MemoryStore(server, "undertaker").write([Join(key=key, member=name, ttl_s=1e6) for name in names])


async def _names(server: MemoryServer, key: str) -> frozenset[str]:
    return await MemoryStore(server, "visitor").members(key)


@pytest.mark.parametrize("seed", range(5))
def test_whoever_lives_is_left_and_nobody_else(seed: int) -> None:
    """Some hundreds of names, a few of them alive, anywhere among them."""
    print("seed", seed)
    chance = random.Random(seed)
    names = [f"pod-{number:04}" for number in chance.sample(range(10_000), 5 * MAX_NAMES)]
    living = chance.sample(names, chance.randrange(1, 5))

    async def program(loop: TimeLoop) -> None:
        clock = LoopClock(loop)
        server = MemoryServer(clock)
        await _join(server, KEYS.workers, names)
        workers = [Worker(MemoryStore(server, name), clock, name) for name in living]
        router = Router(MemoryStore(server, "router-0"), clock)
        tasks = [asyncio.create_task(worker.registration.run()) for worker in workers]
        tasks.append(asyncio.create_task(router.mirror.run()))
        await asyncio.sleep(LOOK_S - 1.0)
        assert await _names(server, KEYS.workers) == set(names)
        for _ in range(20):
            await asyncio.sleep(SETTINGS.heartbeat_s)
            assert {member.worker.worker for member in router.mirror.members()} == set(living)
        assert await _names(server, KEYS.workers) == set(living)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    simulate(program)


def test_routers_look_after_each_other_as_well() -> None:
    async def program(loop: TimeLoop) -> None:
        clock = LoopClock(loop)
        server = MemoryServer(clock)
        await _join(server, KEYS.routers, ["router-dead", "a-dead"])
        guard = Router(MemoryStore(server, "r"), clock).guard
        me = RouterRef(router=RouterId("router-0"), epoch=Epoch(1))
        board = QueueBoard(guard, SETTINGS, clock=clock, router=me)
        await asyncio.sleep(LOOK_S)
        assert await board.publish(QueueReport(depths=()))
        assert await _names(server, KEYS.routers) == {"router-0"}

    simulate(program)


class Interrupted(MemoryStore):
    """Somebody comes back, or Redis is slow, between the names and what is done about them."""

    def __init__(self, server: MemoryServer, *, comes_back: str = "", answers_in_s: float = 0.0) -> None:
        super().__init__(server, "interrupted")
        self.num_looks = 0
        self._comes_back = comes_back
        self._answers_in_s = answers_in_s

    async def exchange(self, key: str, decide: Decide) -> tuple[bool, ...] | None:
        self.num_looks += 1
        await asyncio.sleep(self._answers_in_s)
        if self._comes_back:
            await self.write([Put(key=_record(self._comes_back), value=b"lease", ttl_s=3.0)])
        return await super().exchange(key, decide)


def _record(name: str) -> str:
    return KEYS.worker(WorkerId(name))


def _neighbour(store: Store, clock: LoopClock) -> Neighbour:
    guard = Router(store, clock).guard
    return Neighbour(guard, SETTINGS, clock=clock, me="me", names=KEYS.workers, record_of=_record)


def test_one_that_comes_back_meanwhile_keeps_its_name() -> None:
    async def program(loop: TimeLoop) -> None:
        clock = LoopClock(loop)
        server = MemoryServer(clock)
        await _join(server, KEYS.workers, ["me", "returned"])
        neighbour = _neighbour(Interrupted(server, comes_back="returned"), clock)
        await asyncio.sleep(LOOK_S)
        await neighbour.tidy()
        assert await _names(server, KEYS.workers) == {"me", "returned"}

    simulate(program)


def test_a_slow_redis_is_not_asked_for_long_and_the_next_heartbeat_goes_on() -> None:
    """The heartbeat waits behind it: sixty-four slow answers would outlast a lease."""

    async def program(loop: TimeLoop) -> None:
        clock = LoopClock(loop)
        server = MemoryServer(clock)
        await _join(server, KEYS.workers, ["me", *(f"dead-{number}" for number in range(5))])
        store = Interrupted(server, answers_in_s=0.2)
        neighbour = _neighbour(store, clock)
        await asyncio.sleep(LOOK_S)
        for num_looks in (1, 2, 3, 4, 5, 5, 5):
            started = clock.monotonic()
            await neighbour.tidy()
            assert clock.monotonic() - started < SETTINGS.heartbeat_s
            assert store.num_looks == num_looks
        assert await _names(server, KEYS.workers) == {"me"}

    simulate(program)


def test_a_redis_that_does_not_answer_is_asked_once() -> None:
    async def program(loop: TimeLoop) -> None:
        clock = LoopClock(loop)
        server = MemoryServer(clock)
        await _join(server, KEYS.workers, ["me", "dead-0", "dead-1"])
        store = Interrupted(server, answers_in_s=2.0)
        neighbour = _neighbour(store, clock)
        await asyncio.sleep(LOOK_S)
        for _ in range(3):
            await neighbour.tidy()
        assert store.num_looks == 1

    simulate(program)
