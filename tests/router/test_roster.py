"""Goal: a tenant's limit holds on all routers together, whoever comes and goes. Method: routers' real queues and lines
on one board in virtual time, each asked for as many streams as it would let in."""

import asyncio
import random
from collections import Counter
from types import SimpleNamespace
from typing import cast

import pytest

from common.config.loader import load
from common.core.errors import ELSEWHERE_FACT, Refused
from common.core.ids import Epoch, RequestId, RouterId, RouterRef, TenantId
from common.core.queue import MAX_EXCESS, LimitParts
from common.core.request import Priority
from common.directory.memory_store import MemoryServer, MemoryStore
from common.directory.queue_board import QueueBoard
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics
from services.router.admission.admission import Admission
from services.router.admission.limits import AdmissionLimits
from services.router.admission.line import Line
from services.router.admission.roster import Roster
from services.router.admission.ticket import Ticket, Usage
from services.router.queues import Queues
from tests.directory.cluster import SETTINGS, Router
from tests.sim.timeloop import LoopClock, TimeLoop, simulate

LIMITS = {"one": 1, "three": 3, "ten": 10}
TENANTS = "; ".join(f"{name}: streams={limit}" for name, limit in LIMITS.items())
TERMS = AdmissionLimits.of(load(settings=(f"admission.tenants={TENANTS}",)))
SETTLED_S = 6 * SETTINGS.heartbeat_s
GONE_S = SETTINGS.lease_s + SETTINGS.keep_s + SETTLED_S


class Played:
    """One router's line and queues, and the streams that it holds."""

    def __init__(
        self, server: MemoryServer, clock: LoopClock, name: str, life: int, *, beat_s: float = SETTINGS.heartbeat_s
    ) -> None:
        self.name = name
        self.clock = clock
        self.held: list[tuple[str, RequestId]] = []
        self._given = 0
        me = RouterRef(router=RouterId(name), epoch=Epoch(life))
        self.roster = Roster(me=me.router, keep_s=SETTINGS.keep_s, settle_s=2 * SETTINGS.heartbeat_s)
        self.line = Line(TERMS, roster=self.roster)
        self.board = QueueBoard(Router(MemoryStore(server, name), clock).guard, SETTINGS, clock=clock, router=me)
        self.queues = Queues(
            admission=cast(Admission, SimpleNamespace(line=self.line)),
            board=self.board,
            metrics=Metrics(ProcessRole.ROUTER),
            clock=clock,
            local_prompt_tokens=16,
            heartbeat_s=beat_s,
        )
        self.task = asyncio.create_task(self.queues.run())

    def ask(self, tenant: str) -> Refused | None:
        """One stream more, if it is let in."""
        self._given += 1
        request, now = RequestId(f"{self.name}.{self._given}"), self.clock.monotonic()
        ticket = Ticket(
            request=request,
            tenant=TenantId(tenant),
            priority=Priority.STANDARD,
            arrived=now,
            deadline=now + 1e6,
            num_pages=1,
        )
        try:
            self.line.offer(ticket, now, chance=0.5)
        except Refused as refused:
            return refused
        room = SimpleNamespace(obstacle=lambda pages, tokens: None, places_for=lambda priority: None)
        taken = self.line.take(now, room)
        assert taken is not None
        assert taken.request == request
        self.held.append((tenant, request))
        return None

    def end_one(self, chance: random.Random) -> None:
        if self.held:
            _, request = self.held.pop(chance.randrange(len(self.held)))
            self.line.leave(request, Usage(), self.clock.monotonic())

    def stop(self) -> None:
        """As SIGKILL does: its streams are over."""
        self.task.cancel()
        self.held.clear()


def held(routers: list[Played]) -> Counter[str]:
    return Counter(tenant for router in routers for tenant, _ in router.held)


def flood(routers: list[Played]) -> None:
    """Everybody asks everywhere until nobody lets anything in."""
    for tenant in LIMITS:
        for router in routers:
            while router.ask(tenant) is None:
                pass
    assert all(count <= LIMITS[tenant] for tenant, count in held(routers).items()), held(routers)


@pytest.mark.parametrize("num_routers", [1, 2, 3, 7])
def test_routers_that_start_together_let_in_just_the_limit(num_routers: int) -> None:
    async def program(loop: TimeLoop) -> None:
        clock = LoopClock(loop)
        server = MemoryServer(clock)
        routers = [Played(server, clock, f"r{number}", 1) for number in range(num_routers)]
        for _ in range(100):
            await asyncio.sleep(SETTLED_S / 100)
            flood(routers)
        assert held(routers) == LIMITS
        for router in routers:
            router.task.cancel()

    simulate(program)


def test_a_router_that_comes_has_a_part_only_once_all_know_and_streams_of_before_count() -> None:
    async def program(loop: TimeLoop) -> None:
        clock = LoopClock(loop)
        server = MemoryServer(clock)
        old = Played(server, clock, "r0", 1)
        await asyncio.sleep(SETTLED_S)
        flood([old])
        assert held([old]) == LIMITS
        new = Played(server, clock, "r1", 1)
        refused = new.ask("ten")
        assert refused is not None
        assert ELSEWHERE_FACT in refused.facts, "another router may have room"
        for _ in range(100):
            await asyncio.sleep(SETTLED_S / 100)
            flood([old, new])
        assert not new.held
        chance = random.Random(5)
        for _ in range(40):
            old.end_one(chance)
            await asyncio.sleep(SETTINGS.heartbeat_s)
            flood([old, new])
        assert held([new])["ten"] == 5
        old.task.cancel()
        new.task.cancel()

    simulate(program)


def test_a_router_that_comes_waits_for_one_that_looks_late() -> None:
    async def program(loop: TimeLoop) -> None:
        clock = LoopClock(loop)
        server = MemoryServer(clock)
        late = Played(server, clock, "r0", 1, beat_s=2.5)
        await asyncio.sleep(5.1)
        new = Played(server, clock, "r1", 1)
        for _ in range(20):
            flood([late, new])
            await asyncio.sleep(0.3)
        assert new.roster.has_part
        late.task.cancel()
        new.task.cancel()

    simulate(program)


@pytest.mark.parametrize("seed", range(8))
def test_nobody_ever_has_more_than_the_limit(seed: int) -> None:
    """Routers come, are killed and come back, one by one and together; Redis is emptied, stops and comes back; streams
    end. In the end all of every limit can be used."""

    async def program(loop: TimeLoop) -> None:
        chance, clock = loop.random, LoopClock(loop)
        server = MemoryServer(clock)
        routers: list[Played] = []
        for life in range(1, 100):
            names = {router.name for router in routers}
            what = chance.random()
            if (what < 0.2 and len(routers) < 6) or not routers:
                name = chance.choice(sorted({f"r{number}" for number in range(8)} - names))
                beat_s = chance.choice([0.5, 0.5, 2.5])  # the last is late all the time
                routers.append(Played(server, clock, name, life, beat_s=beat_s))
            elif what < 0.3:
                routers.pop(chance.randrange(len(routers))).stop()
            elif what < 0.35:
                server.empty()
            elif what < 0.38:
                server.stop()
                await asyncio.sleep(chance.choice([0.1, 8.0]))
                flood(routers)
                server.start()
            for router in routers:
                if chance.random() < 0.3:
                    router.end_one(chance)
            await asyncio.sleep(chance.choice([0.0, 0.01, 0.3, 0.6, 2.0]))
            flood(routers)
        await asyncio.sleep(GONE_S)
        for router in routers:
            while router.held:
                router.end_one(chance)
        await asyncio.sleep(5 * SETTLED_S)
        flood(routers)
        assert held(routers) == LIMITS
        for router in routers:
            router.task.cancel()

    simulate(program, seed=seed)


def test_a_release_that_says_nothing_is_taken_to_count_whom_it_sees() -> None:
    roster = Roster(me=RouterId("r1"), keep_s=6.0)
    assert roster.see({RouterId("r0"): None}, 0.0)
    assert roster.has_part
    assert roster.rate_part() == 0.5


def test_too_many_tenants_above_their_part_agree_to_no_list() -> None:
    roster = Roster(me=RouterId("r0"), keep_s=6.0)
    assert roster.words(()) == LimitParts(roster=0)
    roster.see({}, 0.0)
    assert roster.words(()).roster == roster.digest != 0
    many = [(TenantId(f"t{number}"), 3, 1) for number in range(MAX_EXCESS + 1)]
    assert roster.words(many) == LimitParts(roster=0)
    assert len(roster.words(many[1:]).excess) == MAX_EXCESS
