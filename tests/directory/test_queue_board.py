"""Goal: every router's queues are on the board while it lives, and stale is not taken for empty."""

import asyncio

from common.core.ids import Epoch, RouterId, RouterRef
from common.core.queue import QueueDepth, QueueReport
from common.core.request import Priority
from common.core.worker import Role
from common.directory.memory_store import MemoryServer, MemoryStore
from common.directory.queue_board import QueueBoard
from tests.directory.cluster import SETTINGS, Router
from tests.sim.timeloop import LoopClock, TimeLoop, simulate


def board(server: MemoryServer, clock: LoopClock, name: str) -> QueueBoard:
    router = Router(MemoryStore(server, name), clock)
    return QueueBoard(router.guard, SETTINGS, clock=clock, router=RouterRef(router=RouterId(name), epoch=Epoch(1)))


def report(requests: int) -> QueueReport:
    tokens = 16 * requests
    depth = QueueDepth(role=Role.PREFILL, priority=Priority.BATCH, requests=requests, uncached_tokens=tokens)
    return QueueReport(depths=(depth,))


def test_each_router_writes_its_own_place_and_everybody_reads_all() -> None:
    async def program(loop: TimeLoop) -> None:
        clock = LoopClock(loop)
        server = MemoryServer(clock)
        one, two = board(server, clock, "router-0"), board(server, clock, "router-1")
        assert await one.publish(report(3))
        assert await two.publish(report(5))
        assert await one.publish(report(4))
        views = await two.read()
        assert views is not None
        assert {view.router.router: view.report for view in views} == {"router-0": report(4), "router-1": report(5)}

    simulate(program)


def test_a_place_ends_with_its_lease_or_with_leaving() -> None:
    async def program(loop: TimeLoop) -> None:
        clock = LoopClock(loop)
        server = MemoryServer(clock)
        one, two = board(server, clock, "router-0"), board(server, clock, "router-1")
        await one.publish(report(3))
        await asyncio.sleep(SETTINGS.lease_s - 0.1)
        await two.publish(report(5))
        await asyncio.sleep(0.2)
        assert [view.router.router for view in await two.read() or ()] == ["router-1"]
        await two.leave()
        assert await one.read() == ()
        await asyncio.sleep(2 * SETTINGS.lease_s)
        assert server.keys == {}

    simulate(program)


def test_no_answer_is_none_and_not_an_empty_board() -> None:
    async def program(loop: TimeLoop) -> None:
        clock = LoopClock(loop)
        server = MemoryServer(clock)
        one = board(server, clock, "router-0")
        server.stop()
        assert await one.read() is None
        assert not await one.publish(report(1))

    simulate(program)
