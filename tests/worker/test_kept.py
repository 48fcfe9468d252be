"""Kept pages are copied out beside the steps: a fetch waits for no turn, and pages go only behind their last copy.

Method: a real decode core that has read a prompt; copies are held up in the middle, turns are taken by hand.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import pytest

from common.core.clock import ManualClock
from common.core.errors import Fenced
from common.core.ids import Epoch, RequestId, WorkerId, WorkerRef
from common.core.request import Work
from common.core.ticket import Ticket
from common.core.worker import PageCounts
from common.engine.loop import Turns
from common.transfer.messages import PageRun
from common.transfer.offload import Result
from common.worker.kept import KeptPages
from common.worker.retention import PagesDropped
from services.decode.messages import DecodeEvent
from tests.engine.relay import make_decode
from tests.engine.rig import LAYOUT, PAGE_SIZE, work

if TYPE_CHECKING:
    from common.transfer.endpoint import KvEndpoint

NUM_PAGES = 5
PROMPT = list(range(NUM_PAGES * PAGE_SIZE + 1))
ALL = PageRun(first_page=0, num_pages=NUM_PAGES)
ME = WorkerRef(WorkerId("d"), Epoch(2), "d:1")


class HeldOffload:
    """A copy is made when it may be, and not before."""

    def __init__(self) -> None:
        self.begun = asyncio.Semaphore(0)
        self.may_go_on = asyncio.Event()

    async def run(self, function: Callable[[], Result]) -> Result:
        self.begun.release()
        await self.may_go_on.wait()
        return function()

    async def end(self) -> None:
        return


class Tickets:
    """What of an endpoint a holder needs."""

    def keep(self, source: object) -> None:
        return

    def mint_ticket(self, request: RequestId, *, num_pages: int, lease_s: float) -> Ticket:
        return Ticket(holder=ME, request=request, num_pages=num_pages, lease_s=lease_s, nonce=b"n")

    def withdraw_ticket(self, request: RequestId) -> None:
        return


class Scene:
    """A worker that has read PROMPT, and is asked for what it has of it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        side = make_decode(self.clock)
        self.core, self.cache, self.storage = side.core, side.rig.cache, side.rig.storage
        self.offload = HeldOffload()
        self.turns: Turns[DecodeEvent] = Turns(self.core, deliver=self.deliver)
        endpoint = cast("KvEndpoint", Tickets())
        self.kept = KeptPages(endpoint, core=self.core, turns=self.turns, offload=self.offload, lease_s=30.0)
        self.core.start_local(work("first", PROMPT, max_tokens=1))
        while self.turns.turn():
            continue
        assert self.counts.referenced == 0

    def deliver(self, events: Sequence[DecodeEvent]) -> None:
        for event in events:
            if isinstance(event, PagesDropped):
                self.kept.dropped(event)

    @property
    def counts(self) -> PageCounts:
        return self.cache.counts()

    async def lend(self, given: Work) -> Ticket:
        asked = asyncio.ensure_future(self.kept.lend(given, 2.0))
        await asyncio.sleep(0)
        self.turns.turn()
        ticket = await asked
        assert ticket is not None
        assert ticket.num_pages == NUM_PAGES
        assert self.kept.retained(ticket.request) is not None
        return ticket

    async def begin_copy(self, ticket: Ticket) -> "tuple[asyncio.Future[object], memoryview]":
        out = memoryview(bytearray(NUM_PAGES * LAYOUT.page_bytes))
        copying = asyncio.ensure_future(self.kept.gather(ticket.request, ALL, out, None))
        async with asyncio.timeout(1.0):
            await self.offload.begun.acquire()
        return copying, out

    def content(self, ticket: Ticket) -> bytes:
        """Of the kept pages, as they lie now."""
        kept = self.kept._kept[ticket.request]
        return b"".join(bytes(self.storage.page(ref.page)) for ref in kept.loan.pages)


async def test_a_fetch_waits_for_no_step_and_no_step_for_a_fetch() -> None:
    scene = Scene()
    ticket = await scene.lend(work("next", PROMPT))
    content = scene.content(ticket)
    copying, out = await scene.begin_copy(ticket)
    turns = scene.turns.turns
    scene.turns.turn()  # amid the copy
    scene.offload.may_go_on.set()
    await copying  # without another turn
    assert scene.turns.turns == turns + 1
    assert bytes(out) == content
    scene.kept.release(ticket.request)
    scene.turns.turn()
    assert scene.counts.referenced == 0
    assert scene.core.counters.gathered_bytes == len(out)


@pytest.mark.parametrize("how", ["cancelled", "router lost", "late", "lease over"])
async def test_pages_that_are_being_copied_go_only_behind_the_copy(how: str) -> None:
    """Whatever ends the request meanwhile: another prompt that needs every page gets none of these."""
    scene = Scene()
    given = work("next", PROMPT, deadline=50.0)
    ticket = await scene.lend(given)
    content = scene.content(ticket)
    copying, out = await scene.begin_copy(ticket)
    match how:
        case "cancelled":
            scene.turns.post(lambda: scene.core.retention.give_up(lambda _name, _work: True))
        case "router lost":
            scene.turns.post(lambda: scene.core.cancel_router(given.router))
        case "late":
            scene.clock.advance(60.0)
        case _:
            scene.kept.release(ticket.request)
    scene.turns.turn()
    assert scene.counts.referenced == NUM_PAGES, "the copy still reads"
    with pytest.raises(Fenced):
        await scene.kept.gather(ticket.request, ALL, out, None)
    scene.offload.may_go_on.set()
    await copying
    assert bytes(out) == content
    scene.turns.turn()
    assert scene.counts.referenced == 0
    scene.cache.audit()


async def test_the_last_of_several_copies_lets_the_pages_go() -> None:
    scene = Scene()
    ticket = await scene.lend(work("next", PROMPT))
    copies = [(await scene.begin_copy(ticket))[0] for _ in range(2)]
    scene.kept.release(ticket.request)
    scene.turns.turn()
    copies[0].cancel()
    await asyncio.wait([copies[0]])
    scene.turns.turn()
    assert scene.counts.referenced == NUM_PAGES, "one still reads"
    scene.offload.may_go_on.set()
    await copies[1]
    scene.turns.turn()
    assert scene.counts.referenced == 0
    scene.cache.audit()
