"""Fetched prefixes land beside the steps: a prompt begins at the first turn behind its last page, and whatever ends a
fetch amid a copy, what landed before it is cached, and pages go only behind the copy.

Method: a real core of either role, inbound table and lander over simulated storage; copies are held up in the middle.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from common.core.clock import ManualClock
from common.core.errors import Reason, TransferFailed, Unavailable
from common.core.events import StationReached
from common.core.ids import RequestId, TransferId
from common.core.request import Work
from common.core.ticket import PrefixTicket, Ticket
from common.core.worker import PageCounts
from common.engine.loop import Turns
from common.engine.telling import Outgoing
from common.kv.hashing import PrefixChain
from common.observe.lifetime import Station
from common.transfer.messages import Finale, OutcomeState, PageRun
from common.transfer.offload import InlineOffload, Offload
from common.worker.landing import Lander
from common.worker.prefix_desk import PrefixClosed, PrefixPromise
from common.worker.prefix_fetches import PrefixFetches
from services.decode.core import DecodeCore
from tests.engine.relay import make_decode, make_prefill
from tests.engine.rig import LAYOUT, PAGE_SIZE, Rig, work
from tests.worker.wire import THEM, HeldOffload, Wire, landing, until

if TYPE_CHECKING:
    from common.transfer.endpoint import KvEndpoint
    from services.prefill.core import PrefillCore

POOL_PAGES = 100
NUM_PAGES = 6
PIECE_PAGES = 2
RUNS = (PageRun(first_page=0, num_pages=2), PageRun(first_page=2, num_pages=4))
"""The first is landed in one piece, the second in two."""
DECODE, PREFILL = "decode", "prefill"

each_role = pytest.mark.parametrize("role", [DECODE, PREFILL])


def prompt_of(num_pages: int) -> list[int]:
    """One token longer than so many pages."""
    return [7 + place % 200 for place in range(num_pages * PAGE_SIZE + 1)]


def cached(rig: Rig, prompt: list[int]) -> list[bytes]:
    """The pages that a worker would find of a prompt."""
    given = work("look", prompt)
    chain = PrefixChain(scope=given.cache_scope, layout=LAYOUT)
    chain.extend(given.context)
    found = rig.cache.match(chain.hashes, given.context[:-1])
    pages = [bytes(rig.storage.page(ref.page)) for ref in found]
    rig.cache.release(found)
    return pages


def read_elsewhere(prompt: list[int]) -> list[bytes]:
    """What a holder has of it."""
    side = make_decode(ManualClock(), num_pages=POOL_PAGES)
    side.core.start_local(work("first", prompt, max_tokens=1))
    while side.core.advance():
        continue
    return cached(side.rig, prompt)


class Scene:
    """A reader, told by hand to fetch; `turn` is a turn of its step loop, and the event loop's hearing of it."""

    def __init__(self, role: str, offload: Offload, num_pages: int = NUM_PAGES) -> None:
        self.role, self.clock = role, ManualClock()
        side = make_decode if role == DECODE else make_prefill
        made = side(self.clock, num_pages=POOL_PAGES)
        self.core: DecodeCore | PrefillCore = made.core
        self.rig, self.cache = made.rig, made.rig.cache
        self.began: dict[RequestId, float] = {}
        """With how many cached tokens."""
        self.wire = Wire(self.clock, num_buffers=80, buffer_pages=NUM_PAGES)
        self.turns: Turns[Any] = Turns(cast("Any", self.core), deliver=self.deliver)
        self.lander = Lander(
            turns=self.turns,
            inbound=self.wire.inbound,
            storage=self.rig.storage,
            offload=offload,
            piece_bytes=PIECE_PAGES * LAYOUT.page_bytes,
            clock=self.clock,
        )
        self.refusal: Exception | None = None
        endpoint = cast("KvEndpoint", SimpleNamespace(inbound=self.wire.inbound, pull=self.pull))
        self.fetches = PrefixFetches(endpoint, core=self.core, turns=self.turns, lander=self.lander, layout=LAYOUT)
        self.prompt = prompt_of(num_pages)
        self.content = read_elsewhere(self.prompt)
        self.work = work("next", self.prompt, max_tokens=2, deadline=50.0)

    async def pull(self, *_: object, **__: object) -> None:
        if self.refusal is not None:
            raise self.refusal

    def deliver(self, events: tuple[object, ...]) -> None:
        for event in events:
            match event:
                case PrefixClosed():
                    self.fetches.closed(event)
                case Outgoing(event=StationReached(name=Station.PREFILL_STARTED) as begun):
                    self.began[begun.request] = begun.facts["cached_tokens"]
                case _:
                    pass

    def queue(self, given: Work) -> None:
        if isinstance(self.core, DecodeCore):
            self.core.start_local(given)
        else:
            self.core.submit(given, None)

    async def fetch(self, patience_s: float = 10.0) -> PrefixPromise:
        """The prompt is queued, and waits for its pages."""
        self.queue(self.work)
        promise = self.core.fetch_prefix(self.work, len(self.content))
        assert promise is not None
        ticket = Ticket(holder=THEM, request=RequestId("kept"), num_pages=len(self.content), lease_s=9.0, nonce=b"n")
        await self.fetches.begin(self.work, promise, PrefixTicket(ticket=ticket, patience_s=patience_s))
        return promise

    def arrive(self, promise: PrefixPromise, run: PageRun, *, flipped: int | None = None) -> None:
        """With the last run its finale."""
        content = b"".join(self.content[run.first_page : run.end])
        total = len(self.content)
        finale = (
            Finale(first_tokens=(), total_pages=total, cached_tokens=total * PAGE_SIZE) if run.end == total else None
        )
        transfer = TransferId(promise.reservation, self.work.attempt)
        self.wire.arrive(transfer, self.work.request, run, content, finale=finale, flipped=flipped)

    @property
    def counts(self) -> PageCounts:
        return self.cache.counts()

    def turns_until(self, is_so: Callable[[], bool]) -> int:
        for num in range(1, 100):
            self.turns.turn()
            if is_so():
                return num
        raise AssertionError("never")

    def check_over(self, *, num_cached: int) -> None:
        """The prompt was read from there, what it found was right, and nothing is held."""
        assert self.began["next"] == num_cached * PAGE_SIZE
        while self.turns.turn():
            continue
        for request in self.began:  # what was read without a destination is kept
            self.core.cancel(request, 1)
        self.turns.turn()
        assert cached(self.rig, self.prompt) == self.content, "pages that were fetched, and those that were read"
        self.check_nothing_held()

    def check_nothing_held(self) -> None:
        self.turns.turn()
        self.cache.audit()
        assert self.counts.promised == self.counts.referenced == 0, self.counts
        self.wire.check_nothing_lent()
        assert not self.core.prefixes
        assert not self.fetches._fetches


def landed(scene: Scene) -> Callable[[], bool]:
    return lambda: scene.wire.inbound.num_lent == 0


@each_role
async def test_a_prefix_of_many_runs_begins_at_the_turn_behind_the_last_and_no_step_copies_anything(role: str) -> None:
    """Beside work that steps: 64 runs, each landed before the next one comes."""
    num_runs = 64
    scene = Scene(role, InlineOffload(), num_pages=num_runs)
    scatter, num_copies = scene.rig.storage.scatter, 0

    def count(*args: Any) -> None:
        nonlocal num_copies
        num_copies += 1
        scatter(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scene.rig.storage, "scatter", count)
        scene.queue(work("busy", [300 + place for place in range(40)], max_tokens=30))
        scene.turns.turn()
        promise = await scene.fetch()
        async with landing(scene.lander):
            for place in range(num_runs):
                scene.arrive(promise, PageRun(first_page=place, num_pages=1))
            await until(landed(scene))
        assert num_copies == num_runs, "without a turn"
        assert scene.wire.ended(OutcomeState.DONE) == 1, "nor does the holder wait for one"
        assert scene.turns_until(lambda: "next" in scene.began) == 1
        assert num_copies == num_runs
    assert scene.core.counters.fetches_whole == 1
    scene.check_over(num_cached=num_runs)


@each_role
async def test_steps_go_on_amid_a_copy_and_the_prompt_waits_for_it(role: str) -> None:
    offload = HeldOffload()
    scene = Scene(role, offload)
    async with landing(scene.lander):
        promise = await scene.fetch()
        scene.arrive(promise, RUNS[0])
        await offload.begun.acquire()
        scene.queue(work("busy", [300 + place for place in range(40)], max_tokens=8))
        scene.turns.turn()
        assert "busy" in scene.began
        for _ in range(3):
            scene.turns.turn()
        assert "next" not in scene.began
        scene.arrive(promise, RUNS[1])
        for _ in range(3):
            offload.may_end.release()
        await until(landed(scene))
        assert scene.turns_until(lambda: "next" in scene.began) == 1
    scene.check_over(num_cached=NUM_PAGES)


@each_role
@pytest.mark.parametrize("how", ["cancelled", "router lost", "late", "cut"])
async def test_pages_that_are_copied_into_go_behind_the_copy_and_nothing_more_is_written(role: str, how: str) -> None:
    """The first run has landed, the second is being copied: whatever ends the prompt."""
    offload = HeldOffload()
    scene = Scene(role, offload)
    free = scene.counts.free
    async with landing(scene.lander):
        promise = await scene.fetch()
        for run in RUNS:
            scene.arrive(promise, run)
        offload.may_end.release()
        await offload.begun.acquire()
        await offload.begun.acquire()
        match how:
            case "cancelled":
                scene.turns.post(partial(scene.core.cancel, RequestId("next"), 1))
            case "router lost":
                scene.turns.post(partial(scene.core.cancel_router, scene.work.router))
            case "late":
                scene.clock.advance(60.0)
            case _:
                scene.turns.post(scene.core.cut)
        scene.turns.turn()
        assert scene.counts.free <= free - NUM_PAGES, "the copy still writes, and what landed before it is cached"
        assert scene.counts.promised == NUM_PAGES - RUNS[0].num_pages
        assert scene.wire.inbound.num_lent == 1, "the copy still reads"
        assert len(cached(scene.rig, scene.prompt)) == RUNS[0].num_pages
        written = [bytes(scene.rig.storage.page(ref.page)) for ref in promise.permit.pages]
        offload.may_end.release()
        await until(landed(scene))
        assert [bytes(scene.rig.storage.page(ref.page)) for ref in promise.permit.pages[4:]] == written[4:]
        scene.turns.turn()
        assert scene.counts.promised == 0
    assert scene.core.counters.fetches_part == 1
    scene.check_nothing_held()


@each_role
async def test_a_prompt_that_is_given_up_waiting_for_begins_amid_the_copy_with_what_came_before_it(role: str) -> None:
    offload = HeldOffload()
    scene = Scene(role, offload)
    async with landing(scene.lander):
        promise = await scene.fetch(patience_s=0.05)
        for run in RUNS:
            scene.arrive(promise, run)
        offload.may_end.release()
        await offload.begun.acquire()
        await offload.begun.acquire()
        await asyncio.sleep(0.06)  # its patience is over
        scene.turns.turn()
        assert scene.began["next"] == RUNS[0].num_pages * PAGE_SIZE
        scene.turns.turn()
        assert scene.counts.promised == NUM_PAGES - RUNS[0].num_pages, "nobody else gets them"
        offload.may_end.release()
        await until(landed(scene))
        scene.check_over(num_cached=RUNS[0].num_pages)


@each_role
@pytest.mark.parametrize("flipped", [0, 1, 3])
async def test_a_corrupt_page_is_cached_by_nobody_and_the_prompt_reads_from_there(role: str, flipped: int) -> None:
    """Of the second run; its bytes are in a page by then."""
    scene = Scene(role, InlineOffload())
    async with landing(scene.lander):
        promise = await scene.fetch()
        scene.arrive(promise, RUNS[0])
        scene.arrive(promise, RUNS[1], flipped=flipped)
        await until(landed(scene))
    assert scene.wire.counters.incidents["digest_mismatch"] == 1
    assert scene.wire.ended(OutcomeState.FAILED) == 1
    assert scene.turns_until(lambda: "next" in scene.began) == 1
    scene.check_over(num_cached=RUNS[0].num_pages + flipped // PIECE_PAGES * PIECE_PAGES)


async def test_a_device_without_memory_for_digests_costs_a_reading_and_nothing_else() -> None:
    scene = Scene(DECODE, InlineOffload())

    def scatter(*_: object) -> bool:
        raise TransferFailed(message="no memory", reason=Reason.MEMORY_PRESSURE)

    async with landing(scene.lander):
        promise = await scene.fetch()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scene.rig.storage, "scatter_sealed", scatter)
            scene.arrive(promise, RUNS[0])
            await until(landed(scene))
    assert scene.turns_until(lambda: "next" in scene.began) == 1
    scene.check_over(num_cached=0)


async def test_runs_that_come_in_another_order_are_cached_as_far_as_they_lead() -> None:
    """The second run landed, the first did not: nobody can use it."""
    scene = Scene(DECODE, InlineOffload())
    async with landing(scene.lander):
        promise = await scene.fetch()
        scene.arrive(promise, PageRun(first_page=2, num_pages=2))
        await until(landed(scene))
    scene.fetches._give_up(promise.reservation, "late")
    assert scene.turns_until(lambda: "next" in scene.began) == 1
    assert scene.core.counters.fetches_void == 1
    scene.check_over(num_cached=0)


@each_role
async def test_a_worker_that_leaves_amid_a_copy_gives_back_what_it_was_lent(role: str) -> None:
    offload = HeldOffload()
    scene = Scene(role, offload)
    async with landing(scene.lander):
        promise = await scene.fetch()
        for run in RUNS:
            scene.arrive(promise, run)
        await offload.begun.acquire()
        offload.may_end.release()
    scene.wire.check_nothing_lent()
    scene.turns.post(scene.core.cut)
    scene.check_nothing_held()


async def test_a_holder_that_refuses_leaves_nothing_promised() -> None:
    scene = Scene(DECODE, InlineOffload())
    scene.refusal = Unavailable(message="it leaves", reason=Reason.DRAINING)
    await scene.fetch()
    assert scene.turns_until(lambda: "next" in scene.began) == 1
    scene.check_over(num_cached=0)


async def test_a_call_that_is_repeated_hears_nothing_of_the_first_ones_copies() -> None:
    """The prompt waits still, its first fetch was given up amid a copy: what that one writes counts for no other."""
    offload = HeldOffload()
    scene = Scene(PREFILL, offload)
    async with landing(scene.lander):
        first = await scene.fetch()
        scene.arrive(first, RUNS[0])
        await offload.begun.acquire()
        assert scene.core.fetch_prefix(scene.work, NUM_PAGES) is None, "it is coming already"
        scene.core.prefixes.close(first.reservation)
        second = await scene.fetch()
        assert second.reservation != first.reservation
        assert not set(second.permit.pages) & set(first.permit.pages)
        offload.may_end.release()
        await until(landed(scene))
        scene.turns.turn()
        assert "next" not in scene.began
        assert scene.core.prefixes._coming[second.reservation].num_here == 0
        for run in RUNS:
            scene.arrive(second, run)
        for _ in range(3):
            offload.may_end.release()
        await until(landed(scene))
        scene.turns.turn()
    scene.check_over(num_cached=NUM_PAGES)
