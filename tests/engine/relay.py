"""A prefill core and a decode core wired by hand, without network or threads: the hand-off's logic alone."""

from dataclasses import dataclass, field
from itertools import count

from common.core.clock import ManualClock
from common.core.events import TokensEmitted, WorkEvent
from common.core.ids import Epoch, RequestId, ReservationId, TokenId, WorkerId, WorkerRef
from common.core.request import Work
from common.core.step import Draw
from common.engine.layer_news import LayerNews
from common.engine.rule import TokenRule
from common.engine.telling import Outgoing, Owned, Stepped
from common.kv.staging import StagingPool
from common.transfer.messages import PageRun
from common.worker.permit import PagesLanded, Permit
from common.worker.prefix_desk import PrefixClosed
from common.worker.retention import PagesDropped, PagesKept
from services.decode.app import compose as compose_decode
from services.decode.budget import ExtendBudget
from services.decode.core import DecodeCore
from services.decode.messages import Departed, ReservationClosed
from services.decode.reservations import Opening, Promise
from services.decode.scheduler import DecodeLimits
from services.prefill.app import compose as compose_prefill
from services.prefill.core import PrefillCore
from services.prefill.messages import Destination, ExportDropped, RunReady
from services.prefill.scheduler import PrefillLimits
from tests.engine.rig import LAYOUT, PAGE_SIZE, Rig, make_rig

DECODE = WorkerRef(WorkerId("decode-0"), Epoch(2), "127.0.0.1:2")


@dataclass
class DecodeSide:
    rig: Rig
    core: DecodeCore

    def land(self, permit: Permit, run: PageRun, data: memoryview) -> bool:
        """As the lander does it. False: not wanted any more."""
        if not permit.enter():
            return False
        self.rig.storage.scatter(permit.pages_of(run), data, run.layers)
        assert permit.leave(), "nothing happens meanwhile"
        self.core.landed(PagesLanded(reservation=permit.reservation, attempt=permit.attempt, pages=run, whole_run=run))
        return True


@dataclass
class PrefillSide:
    rig: Rig
    core: PrefillCore
    staging: StagingPool


def make_decode(
    clock: ManualClock,
    *,
    num_pages: int = 64,
    overcommit: float = 4.0,
    max_sequences: int = 64,
    device: str | None = None,
    **executor: object,
) -> DecodeSide:
    rig = make_rig(num_pages, device, **executor)
    names = count(1)
    core = compose_decode(
        rig.engine(),
        limits=DecodeLimits(
            page_size=PAGE_SIZE,
            max_sequences=max_sequences,
            extend_tokens=8,
            idle_extend_tokens=32,
            watermark_pages=1,
        ),
        budget=ExtendBudget(itl_budget_s=0.05, ceiling=8, floor=4),
        overcommit=overcommit,
        lease_s=30.0,
        clock=clock,
        mint=lambda: ReservationId(f"res-{next(names)}"),
    )
    return DecodeSide(rig=rig, core=core)


def make_prefill(
    clock: ManualClock,
    *,
    num_pages: int = 64,
    num_staging: int = 2,
    device: str | None = None,
    layer_groups: int = 1,
    **executor: object,
) -> PrefillSide:
    rig = make_rig(num_pages, device, news=LayerNews(LAYOUT.num_layers, layer_groups), **executor)
    staging = StagingPool(num_staging, 3 * LAYOUT.page_bytes)
    core = compose_prefill(
        rig.engine(),
        staging=staging,
        limits=PrefillLimits(page_size=PAGE_SIZE, step_tokens=12, chunk_tokens=8, max_prompts=4),
        max_waiting=16,
        clock=clock,
    )
    return PrefillSide(rig=rig, core=core, staging=staging)


@dataclass
class Relay:
    """Both sides, and what a router would have heard."""

    clock: ManualClock = field(default_factory=ManualClock)
    heard: list[WorkEvent] = field(default_factory=list)
    landed_pages: int = 0
    permits: dict[tuple[ReservationId, int], Permit] = field(default_factory=dict)
    device: str | None = None
    """What steps run on while both sides are ahead of them; None: they are not."""
    num_staging: int = 2
    layer_groups: int = 1
    takes_layers: bool = True
    poison: tuple[TokenId, ...] = ()
    layered_pages: int = 0
    """Pages of which some layers landed, once for each group of them."""
    dropped: list[RequestId] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.prefill = make_prefill(
            self.clock,
            num_staging=self.num_staging,
            device=self.device,
            layer_groups=self.layer_groups,
            poison=self.poison,
        )
        self.decode = make_decode(self.clock, device=self.device)

    def send(self, work: Work) -> Promise:
        promise = self.decode.core.reserve(work)
        self.forward(work, promise)
        return promise

    def forward(self, work: Work, promise: Promise, rule: TokenRule | None = None) -> None:
        self.permits[(promise.reservation, work.attempt)] = promise.permit
        destination = Destination(
            worker=DECODE,
            reservation=promise.reservation,
            held_pages=promise.held_pages,
            takes_layers=self.takes_layers,
        )
        self.prefill.core.submit(work, destination, rule)

    def run(self, max_turns: int = 1000) -> None:
        """Turn both sides until neither has anything to do."""
        for _ in range(max_turns):
            self.clock.advance(0.001)
            did_work = self.prefill.core.advance()
            did_work |= self.carry()
            did_work |= self.decode.core.advance()
            self.listen()
            if not did_work:
                return
        raise AssertionError(f"still busy after {max_turns} turns")

    def carry(self) -> bool:
        """Hand every ready run to decode, bytes and all."""
        carried = False
        for event in self.prefill.core.take_events():
            match event:
                case Outgoing():
                    self.heard.append(event.event)
                case RunReady():
                    self.land(event)
                    carried = True
                case ExportDropped():
                    self.dropped.append(event.request)
                case PagesKept() | PagesDropped() | PrefixClosed():
                    pass
                case Stepped() | Owned():
                    pass
        return carried

    def land(self, ready: RunReady) -> None:
        reservation, attempt = ready.destination.reservation, ready.attempt
        if ready.staging is not None:
            data = memoryview(bytes(ready.staging.view[: ready.num_bytes]))
            ready.staging.release()
            if self.decode.land(self.permits[(reservation, attempt)], ready.run, data):
                self.landed_pages += ready.run.num_pages
                self.layered_pages += ready.run.num_pages if ready.run.layers else 0
        if ready.finale is not None:
            first = {each.choice: Draw(token=each.token, logprobs=each.logprobs) for each in ready.finale.first_tokens}
            opening = Opening(first_tokens=first, prompt_logprobs=ready.finale.prompt_logprobs)
            self.decode.core.complete(reservation, attempt, opening)

    def listen(self) -> None:
        for event in self.decode.core.take_events():
            match event:
                case Outgoing():
                    self.heard.append(event.event)
                case ReservationClosed() | Departed() | PagesDropped() | PrefixClosed():
                    pass
                case Stepped() | Owned():
                    pass

    def output(self, request: str, choice: int = 0) -> list[TokenId]:
        """Tokens by index, whoever said them; both must agree where both spoke."""
        tokens: dict[int, TokenId] = {}
        for event in self.heard:
            if isinstance(event, TokensEmitted) and (event.request, event.choice) == (RequestId(request), choice):
                for index, token in enumerate(event.tokens, start=event.first_index):
                    assert tokens.setdefault(index, token) == token, f"two tokens at index {index}"
        assert sorted(tokens) == list(range(len(tokens))), f"a gap in {sorted(tokens)}"
        return [tokens[index] for index in range(len(tokens))]

    def check_idle(self) -> None:
        """No page is held by anybody once everything is quiet."""
        for side in (self.prefill.rig, self.decode.rig):
            side.cache.audit()
            counts = side.cache.counts()
            assert counts.promised == counts.referenced == 0, counts
