"""Runs land beside the steps: every byte in its page, none after its promise ended, pages freed only behind a copy.

Method: a real core, inbound table and lander over simulated storage; copies are held up in the middle.
"""

from dataclasses import dataclass, field
from functools import partial

import pytest

from common.core.clock import ManualClock
from common.core.errors import Reason, TransferFailed
from common.core.ids import RequestId, TokenId, TransferId
from common.core.request import Work
from common.engine.loop import Turns
from common.transfer.messages import Finale, FirstToken, Outcome, OutcomeState, PageRun
from common.transfer.offload import Offload, ThreadOffload
from common.worker.landing import Lander
from services.decode.arrivals import Arrivals
from services.decode.messages import DecodeEvent, ReservationClosed
from services.decode.reservations import Promise
from tests.engine.relay import make_decode
from tests.engine.rig import LAYOUT, PAGE_SIZE, work
from tests.worker.wire import POISON, HeldOffload, Wire, landing, until

NUM_PAGES = 6
PROMPT = list(range(NUM_PAGES * PAGE_SIZE))


@dataclass
class Scene:
    """A decode worker's landing side. `turn` is a turn of the step loop, and the event loop's hearing of it."""

    offload: Offload
    piece_pages: int = 2
    clock: ManualClock = field(default_factory=ManualClock)
    failed: list[Outcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        side = make_decode(self.clock)
        self.core, self.cache, self.storage = side.core, side.rig.cache, side.rig.storage
        self.wire = Wire(self.clock, num_buffers=8, buffer_pages=NUM_PAGES)
        self.inbound, self.counters = self.wire.inbound, self.wire.counters
        self.turns: Turns[DecodeEvent] = Turns(self.core, deliver=self.deliver)
        self.lander = Lander(
            turns=self.turns,
            inbound=self.inbound,
            storage=self.storage,
            offload=self.offload,
            piece_bytes=self.piece_pages * LAYOUT.page_bytes,
            clock=self.clock,
        )
        self.arrivals = Arrivals(
            core=self.core,
            turns=self.turns,
            inbound=self.inbound,
            lander=self.lander,
            layout=LAYOUT,
            tell=lambda *_: None,
        )

    def deliver(self, events: tuple[DecodeEvent, ...]) -> None:
        for event in events:
            if isinstance(event, ReservationClosed):
                self.arrivals.closed(event)

    def reserve(self, given: Work) -> Promise:
        promise = self.core.reserve(given)
        self.arrivals.expect(given, promise, given.attempt)
        return promise

    def arrive(self, given: Work, promise: Promise, run: PageRun, fill: int, *, flipped: int | None = None) -> None:
        """A run full of one byte; with the last, the finale."""
        first = FirstToken(choice=0, token=TokenId(5))
        finale = Finale(first_tokens=(first,), total_pages=NUM_PAGES) if run.end == NUM_PAGES else None
        transfer = TransferId(promise.reservation, given.attempt)
        content = bytes([fill]) * (run.num_pages * LAYOUT.page_bytes)
        self.wire.arrive(transfer, given.request, run, content, finale=finale, flipped=flipped)

    def state(self, promise: Promise) -> list[int]:
        """The first byte of every promised page."""
        return [self.storage.page(ref.page)[0] for ref in promise.permit.pages]

    def check_nothing_held(self) -> None:
        self.turns.turn()
        self.cache.audit()
        counts = self.cache.counts()
        assert counts.promised == counts.referenced == 0, counts
        self.wire.check_nothing_lent()


RUNS = (PageRun(first_page=0, num_pages=5), PageRun(first_page=5, num_pages=1))


async def test_every_byte_lands_in_its_page_and_the_answer_begins() -> None:
    offload = ThreadOffload()
    scene, given = Scene(offload), work("r", PROMPT, max_tokens=2)
    async with landing(scene.lander):
        promise = scene.reserve(given)
        for fill, run in enumerate(RUNS, start=1):
            scene.arrive(given, promise, run, fill)
        await until(lambda: scene.inbound.num_lent == 0)
    offload.close()
    assert scene.state(promise) == [1, 1, 1, 1, 1, 2]
    assert scene.core.counters.landed_bytes == 0, "steps hear of it at their next turn"
    scene.turns.turn()
    assert scene.core.counters.landed_bytes == NUM_PAGES * LAYOUT.page_bytes
    assert scene.core.counters.promises_filled == 1
    assert scene.wire.ended(OutcomeState.DONE) == 1
    while scene.turns.turn():
        continue
    scene.check_nothing_held()


async def test_a_step_neither_makes_a_copy_nor_waits_for_one() -> None:
    offload = HeldOffload()
    scene, given = Scene(offload), work("r", PROMPT)
    async with landing(scene.lander):
        scene.core.start_local(work("other", [1, 2, 3], max_tokens=30))
        promise = scene.reserve(given)
        scene.arrive(given, promise, RUNS[0], 1)
        await offload.begun.acquire()
        steps = scene.turns.look.load.steps
        for _ in range(5):
            scene.turns.turn()
        assert scene.turns.look.load.steps == steps + 5
        for _ in range(3):
            offload.may_end.release()
        await until(lambda: scene.inbound.num_lent == 0)


@pytest.mark.parametrize("how", ["cancelled", "late", "router lost"])
async def test_pages_that_are_being_copied_into_are_freed_behind_the_copy_and_nothing_more_is_written(how: str) -> None:
    offload = HeldOffload()
    scene, given = Scene(offload), work("r", PROMPT, deadline=50.0)
    free = scene.cache.counts().free
    async with landing(scene.lander):
        promise = scene.reserve(given)
        scene.arrive(given, promise, RUNS[0], 1)
        await offload.begun.acquire()
        match how:
            case "cancelled":
                scene.turns.post(partial(scene.core.cancel, RequestId("r"), 1))
            case "late":
                scene.clock.advance(60.0)
            case _:
                scene.turns.post(partial(scene.core.cancel_router, given.router))
        scene.turns.turn()
        assert scene.cache.counts().free == free - NUM_PAGES, "the copy still writes"
        assert scene.inbound.num_lent == 1, "the copy still reads"
        offload.may_end.release()
        await until(lambda: scene.inbound.num_lent == 0)
        assert scene.state(promise)[2:] == [0] * 4, "the second piece must not be written"
        scene.turns.turn()
        assert scene.cache.counts().free == free
    scene.check_nothing_held()


async def test_bytes_of_an_older_attempt_are_never_written_after_those_of_a_newer_one() -> None:
    offload = HeldOffload()
    scene, first = Scene(offload, piece_pages=NUM_PAGES), work("r", PROMPT, max_tokens=2)
    async with landing(scene.lander):
        promise = scene.reserve(first)
        scene.arrive(first, promise, RUNS[0], 1)
        await offload.begun.acquire()
        renewed = scene.core.renew(promise.reservation, 2)
        second = work("r", PROMPT, max_tokens=2, attempt=2)
        scene.arrivals.expect(second, renewed, 2)
        for run in RUNS:
            scene.arrive(second, renewed, run, 2)
        scene.turns.turn()
        assert scene.state(promise)[0] == 1, "the newer attempt waits for the older one's copy"
        for _ in range(3):
            offload.may_end.release()
        await until(lambda: scene.inbound.num_lent == 0)
    assert scene.state(promise) == [2] * NUM_PAGES
    assert scene.core.counters.promises_filled == 0
    scene.turns.turn()
    assert scene.core.counters.promises_filled == 1, "and the pool saw no writer left"
    while scene.turns.turn():
        continue
    scene.check_nothing_held()


async def test_a_worker_that_leaves_amid_a_copy_gives_back_what_it_was_lent() -> None:
    offload = HeldOffload()
    scene, given = Scene(offload), work("r", PROMPT)
    async with landing(scene.lander):
        promise = scene.reserve(given)
        for run in RUNS:
            scene.arrive(given, promise, run, 1)
        await offload.begun.acquire()
        offload.may_end.release()
    scene.wire.check_nothing_lent()


async def test_a_worker_that_leaves_amid_a_second_piece_has_not_landed_the_run() -> None:
    offload = HeldOffload()
    scene, given = Scene(offload), work("r", PROMPT)
    async with landing(scene.lander):
        promise = scene.reserve(given)
        scene.arrive(given, promise, PageRun(first_page=0, num_pages=NUM_PAGES), 1)
        await offload.begun.acquire()
        offload.may_end.release()
        await offload.begun.acquire()
    assert scene.wire.ended(OutcomeState.DONE) == 0
    assert scene.wire.ended(OutcomeState.FAILED) == 1
    assert scene.inbound.num_lent == 0


@pytest.mark.parametrize("flipped", range(5))
async def test_a_corrupt_page_fails_its_attempt_wherever_it_lies_and_no_answer_begins(flipped: int) -> None:
    """Its bytes may be in a promised page by then: the core counts no piece that does not fit, and hears no finale."""
    offload = ThreadOffload()
    scene, given = Scene(offload), work("r", PROMPT, max_tokens=2)
    free = scene.cache.counts().free
    async with landing(scene.lander):
        promise = scene.reserve(given)
        scene.arrive(given, promise, RUNS[0], 1, flipped=flipped)
        scene.arrive(given, promise, RUNS[1], 2)
        await until(lambda: scene.inbound.num_lent == 0)
    offload.close()
    assert scene.state(promise)[flipped] == POISON
    assert scene.counters.incidents["digest_mismatch"] == 1
    assert scene.wire.ended(OutcomeState.FAILED) == 1
    for _ in range(3):
        scene.turns.turn()
    assert scene.core.counters.promises_filled == 0
    assert scene.core.counters.landed_bytes == (flipped // 2 * 2 + 1) * LAYOUT.page_bytes, (
        "pieces before it, and page 5"
    )
    assert scene.cache.counts().free == free - NUM_PAGES, "the promise stands"
    scene.turns.post(partial(scene.core.cancel, RequestId("r"), 1))
    scene.check_nothing_held()
    assert scene.cache.counts().free == free


async def test_the_next_attempt_writes_over_what_was_corrupt_and_the_answer_begins() -> None:
    offload = ThreadOffload()
    scene, first = Scene(offload), work("r", PROMPT, max_tokens=2)
    async with landing(scene.lander):
        promise = scene.reserve(first)
        scene.arrive(first, promise, RUNS[0], 1, flipped=3)
        await until(lambda: scene.inbound.num_lent == 0)
        assert POISON in scene.state(promise)
        renewed = scene.core.renew(promise.reservation, 2)
        second = work("r", PROMPT, max_tokens=2, attempt=2)
        scene.arrivals.expect(second, renewed, 2)
        for run in RUNS:
            scene.arrive(second, renewed, run, 2)
        await until(lambda: scene.inbound.num_lent == 0)
    offload.close()
    assert scene.state(promise) == [2] * NUM_PAGES
    scene.turns.turn()
    assert scene.core.counters.promises_filled == 1
    while scene.turns.turn():
        continue
    scene.check_nothing_held()


async def test_a_promise_that_ends_amid_a_corrupt_copy_gives_its_pages_back_behind_it() -> None:
    offload = HeldOffload()
    scene, given = Scene(offload), work("r", PROMPT)
    free = scene.cache.counts().free
    async with landing(scene.lander):
        promise = scene.reserve(given)
        scene.arrive(given, promise, RUNS[0], 1, flipped=0)
        await offload.begun.acquire()
        scene.turns.post(partial(scene.core.cancel, RequestId("r"), 1))
        scene.turns.turn()
        assert scene.cache.counts().free == free - NUM_PAGES, "the copy still writes"
        offload.may_end.release()
        await until(lambda: scene.inbound.num_lent == 0)
    scene.check_nothing_held()
    assert scene.cache.counts().free == free


async def test_a_device_without_memory_for_digests_fails_the_attempt_and_the_lander_goes_on() -> None:
    offload = ThreadOffload()
    scene, given = Scene(offload), work("r", PROMPT, max_tokens=2)
    async with landing(scene.lander):
        promise = scene.reserve(given)
        with pytest.MonkeyPatch.context() as patch:
            full = TransferFailed(message="no memory", reason=Reason.MEMORY_PRESSURE)

            def scatter(*_: object) -> bool:
                raise full

            patch.setattr(scene.storage, "scatter_sealed", scatter)
            scene.arrive(given, promise, RUNS[0], 1)
            await until(lambda: scene.inbound.num_lent == 0)
        assert scene.wire.ended(OutcomeState.FAILED) == 1
        other = work("other", PROMPT, max_tokens=2)
        promise = scene.reserve(other)
        for run in RUNS:
            scene.arrive(other, promise, run, 3)
        await until(lambda: scene.inbound.num_lent == 0)
    offload.close()
    assert scene.state(promise) == [3] * NUM_PAGES
