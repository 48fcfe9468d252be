"""Names of the dead stay in a set; the living are found among them, and never lost."""

import asyncio
import random

import pytest

from common.core.ids import Epoch, RouterId, RouterRef
from common.core.queue import QueueReport
from common.directory import mirror, queue_board, sighting
from common.directory.keys import Keys
from common.directory.memory_store import MemoryServer, MemoryStore
from common.directory.queue_board import QueueBoard
from common.directory.roll import Roll
from common.directory.sighting import Lookout
from common.directory.store import Join
from tests.directory.cluster import SETTINGS, Router, Worker
from tests.sim.timeloop import LoopClock, TimeLoop, simulate

MOST = 8
KEYS = Keys(SETTINGS.cluster)


def _call(roll: Roll, names: list[str], known: list[str], heard_of: list[str] | None = None) -> tuple[str, ...]:
    called = roll.call(names, known=known, heard_of=heard_of or ())
    roll.was_answered()
    return called


def test_few_names_are_called_all_at_once() -> None:
    roll = Roll(MOST)
    assert not roll.is_whole
    assert _call(roll, ["b", "a"], []) == ("a", "b")
    assert roll.is_whole


@pytest.mark.parametrize("seed", range(20))
def test_everybody_has_a_turn_and_the_living_have_one_each_time(seed: int) -> None:
    print("seed", seed)
    chance = random.Random(seed)
    names = [f"worker-{number}" for number in chance.sample(range(1000), chance.randrange(MOST + 1, 100))]
    known = chance.sample(names, chance.randrange(MOST))
    roll, called = Roll(MOST), set[str]()
    while not roll.is_whole:
        turn = _call(roll, names, known)
        assert len(turn) == len(set(turn)) <= MOST
        assert set(known) <= set(turn)
        assert not called.issuperset(turn) or len(known) == MOST, "a call that asks about nobody new"
        called |= set(turn)
    assert called == set(names)


def test_whoever_was_heard_of_comes_first_and_leaves_half_to_the_others() -> None:
    names = [f"{number:03}" for number in range(100)]
    turn = _call(Roll(MOST), names, ["050", "060"], heard_of=[*names[90:], "never announced"])
    assert turn == ("000", "001", "002", "050", "060", "090", "091", "092")


def test_a_call_without_an_answer_is_made_again() -> None:
    names = [f"{number:03}" for number in range(100)]
    roll = Roll(MOST)
    assert roll.call(names, known=()) == roll.call(names, known=())
    roll.was_answered()
    assert roll.call(names, known=()) == tuple(names[8:16])


def test_where_more_live_than_can_be_called_the_roll_is_whole() -> None:
    names = [f"{number:03}" for number in range(100)]
    roll = Roll(MOST)
    assert len(_call(roll, names, names)) == MOST
    assert roll.is_whole


async def _bury(server: MemoryServer, key: str, num_dead: int) -> None:
    """Names that sort before everybody's, and whose owners are gone."""
    store = MemoryStore(server, "undertaker")
    await store.write([Join(key=key, member=f"a-{number}", ttl_s=1e6) for number in range(num_dead)])


def test_workers_are_seen_among_ten_times_as_many_dead_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who were there before the router, and one that comes later: its first event tells of it at once."""
    monkeypatch.setattr(mirror, "MAX_MEMBERS", MOST)

    async def program(loop: TimeLoop) -> None:
        clock = LoopClock(loop)
        server = MemoryServer(clock)
        await _bury(server, KEYS.workers, 10 * MOST)
        workers = [Worker(MemoryStore(server, name), clock, name) for name in ("w-0", "w-1", "w-2")]
        tasks = [asyncio.create_task(worker.registration.run()) for worker in workers[:2]]
        await asyncio.sleep(SETTINGS.heartbeat_s)
        router = Router(MemoryStore(server, "router-0"), clock)
        tasks.append(asyncio.create_task(router.mirror.run()))
        await router.wait_until(lambda: len(router.mirror.members()) == 2, 2 * SETTINGS.heartbeat_s)
        tasks.append(asyncio.create_task(workers[2].registration.run()))
        await router.wait_until(lambda: len(router.mirror.members()) == 3, 2 * SETTINGS.heartbeat_s)
        for _ in range(100):
            await asyncio.sleep(SETTINGS.heartbeat_s / 5)
            assert len(router.mirror.members()) == 3, "one was lost"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    simulate(program)


def test_a_worker_whose_events_are_gone_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "MAX_MEMBERS", MOST)

    async def program(loop: TimeLoop) -> None:
        clock = LoopClock(loop)
        server = MemoryServer(clock)
        await _bury(server, KEYS.workers, 10 * MOST)
        worker, router = Worker(MemoryStore(server, "w-0"), clock, "w-0"), Router(MemoryStore(server, "r"), clock)
        num_looks = 0
        while not router.mirror.members():
            assert await worker.registration.beat()
            await router.mirror.round()
            await asyncio.sleep(SETTINGS.heartbeat_s)
            num_looks += 1
            assert num_looks <= 11
        assert num_looks > 1

    simulate(program)


def test_routers_are_counted_among_dead_names_and_unknown_until_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits of tenants are divided by this number: fewer routers than there are would give everybody more."""
    monkeypatch.setattr(queue_board, "MAX_ROUTERS", MOST)

    async def program(loop: TimeLoop) -> None:
        clock = LoopClock(loop)
        server = MemoryServer(clock)
        await _bury(server, KEYS.routers, 3 * MOST)
        boards = [_board(server, clock, f"router-{number}") for number in range(2)]
        counts = []
        for _ in range(6):
            for board in boards:
                assert await board.publish(QueueReport(depths=()))
            views = await boards[0].read()
            counts.append(None if views is None else len(views))
        assert counts == [None, None, None, 2, 2, 2]

    simulate(program)


def _board(server: MemoryServer, clock: LoopClock, name: str) -> QueueBoard:
    guard = Router(MemoryStore(server, name), clock).guard
    return QueueBoard(guard, SETTINGS, clock=clock, router=RouterRef(router=RouterId(name), epoch=Epoch(1)))


def test_a_lookout_says_nothing_before_it_saw_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planner would take workers that it did not look up for missing ones."""
    monkeypatch.setattr(sighting, "MAX_MEMBERS", MOST)
    monkeypatch.setattr(sighting, "MAX_ROUTERS", MOST)

    async def program(loop: TimeLoop) -> None:
        clock = LoopClock(loop)
        server = MemoryServer(clock)
        await _bury(server, KEYS.workers, 3 * MOST)
        workers = [Worker(MemoryStore(server, name), clock, name) for name in ("w-0", "w-1")]
        lookout = Lookout(Router(MemoryStore(server, "planner"), clock).guard, SETTINGS)
        seen = []
        for _ in range(6):
            for worker in workers:
                assert await worker.registration.beat()
            sighted = await lookout.look()
            seen.append(None if sighted is None else len(sighted.members))
        assert seen == [None, None, None, 2, 2, 2]

    simulate(program)
