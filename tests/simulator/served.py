"""The cores that serve, timed by the cost model and driven by hand: what the simulator's machines must agree with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from common.core.clock import ManualClock
from common.core.cost.model import CostModel
from common.core.cost.work import StepWork
from common.core.events import PrefillDone, TokensEmitted
from common.core.ids import Epoch, RequestId, ReservationId, WorkerId, WorkerRef
from common.core.step import Step
from common.engine.batch import Batch
from common.engine.sim import SimExecutor
from common.engine.telling import Outgoing, Stepped
from common.kv.cache import PageCache
from common.kv.pool import PagePool
from common.kv.prefix import PrefixIndex
from common.kv.sim_layout import sim_layout
from common.kv.sim_storage import SimStorage
from common.kv.staging import StagingPool
from common.worker.engine import Engine
from services.decode.app import OVERCOMMIT, WATERMARK
from services.decode.app import compose as compose_decode
from services.decode.budget import ExtendBudget
from services.decode.core import DecodeCore
from services.decode.scheduler import DecodeLimits
from services.prefill.app import compose as compose_prefill
from services.prefill.core import PrefillCore
from services.prefill.messages import Destination, RunReady
from services.prefill.scheduler import PrefillLimits
from services.simulator.cluster import ClusterShape
from services.simulator.trace import Trace, TraceRequest
from services.simulator.writer import MIN_EXTEND_TOKENS
from tests.engine.rig import work

VOCAB = 1 << 20


@dataclass(frozen=True)
class CostSpeed:
    """A step takes what the cost model says."""

    cost: CostModel

    def step_seconds(self, step: Step) -> float:
        return self.cost.step_seconds(StepWork.of(step))


@dataclass
class Seen:
    """One request's times on a core that serves."""

    first: float = -1.0
    last: float = -1.0
    cached: int = -1


def make_engine(trace: Trace, shape: ClusterShape) -> Engine:
    layout = sim_layout(page_size=trace.page_size)
    storage = SimStorage(layout, shape.cache_tokens // trace.page_size)
    executor = SimExecutor(storage, vocab_size=VOCAB, max_context=1 << 20, speed=CostSpeed(shape.cost))  # type: ignore[arg-type]  # timed by the cost model
    cache = PageCache(PagePool(storage.num_pages), PrefixIndex(), page_size=trace.page_size)
    batch = Batch(cache=cache, executor=executor, layout=layout, eos_ids=())
    return Engine(layout=layout, storage=storage, executor=executor, cache=cache, batch=batch)


def prompt_of(request: TraceRequest, index: int, page_size: int) -> list[int]:
    """Token ids that begin alike exactly where the trace's pages do."""
    tokens = [page for page in request.pages for _ in range(page_size)]
    return [*tokens, *[VOCAB - 1 - index] * (request.prompt_tokens - len(tokens))]


def decode_alone(trace: Trace, shape: ClusterShape, *, overcommit: float = OVERCOMMIT) -> list[Seen]:
    """Every prompt is read and answered by one decode core."""
    clock, names, engine = ManualClock(), count(1), make_engine(trace, shape)
    core = compose_decode(
        engine,
        limits=DecodeLimits(
            page_size=trace.page_size,
            max_sequences=shape.max_sequences,
            extend_tokens=shape.extend_tokens,
            idle_extend_tokens=shape.chunk_tokens,
            watermark_pages=max(1, int(engine.storage.num_pages * WATERMARK)),
        ),
        budget=ExtendBudget(itl_budget_s=shape.itl_budget_s, ceiling=shape.extend_tokens, floor=MIN_EXTEND_TOKENS),
        overcommit=overcommit,
        lease_s=1e9,
        clock=clock,
        mint=lambda: ReservationId(f"res-{next(names)}"),
    )
    return drive(trace, core, clock, core.start_local)


def prefill_alone(trace: Trace, shape: ClusterShape) -> list[Seen]:
    """Every prompt is read by one prefill core; its pages go nowhere."""
    clock, names, engine = ManualClock(), count(1), make_engine(trace, shape)
    core = compose_prefill(
        engine,
        staging=StagingPool(4096, engine.layout.page_bytes),
        limits=PrefillLimits(
            page_size=trace.page_size,
            step_tokens=shape.step_tokens,
            chunk_tokens=shape.chunk_tokens,
            max_prompts=shape.max_sequences,
        ),
        max_waiting=100_000,
        clock=clock,
    )
    target = WorkerRef(WorkerId("decode"), Epoch(1), "decode:1")
    return drive(
        trace,
        core,
        clock,
        lambda given: core.submit(
            given, Destination(worker=target, reservation=ReservationId(f"res-{next(names)}"), held_pages=0)
        ),
    )


def drive(trace: Trace, core: DecodeCore | PrefillCore, clock: ManualClock, begin: Callable[..., object]) -> list[Seen]:
    """Commands that came during a step are carried out after it, as the step loop does."""
    seen = [Seen() for _ in trace.requests]
    coming, start = list(enumerate(trace.requests)), clock.monotonic()
    while True:
        while coming and start + coming[0][1].arrived_s <= clock.monotonic() + 1e-12:
            index, request = coming.pop(0)
            begin(work(str(index), prompt_of(request, index, trace.page_size), max_tokens=request.output_tokens))
        core.advance()
        events = core.take_events()
        clock.advance(sum(event.seconds for event in events if isinstance(event, Stepped)))
        note(events, seen, clock.monotonic() - start)
        if not any(isinstance(event, Stepped) for event in events):
            if not coming:
                return seen
            clock.advance(max(0.0, start + coming[0][1].arrived_s - clock.monotonic()))


def note(events: Sequence[object], seen: list[Seen], now: float) -> None:
    for event in events:
        if isinstance(event, RunReady) and event.staging is not None:
            event.staging.release()
        if isinstance(event, Outgoing) and isinstance(event.event, PrefillDone):
            seen[number(event.event.request)].cached = event.event.cached_tokens
        if isinstance(event, Outgoing) and isinstance(event.event, TokensEmitted):
            mine = seen[number(event.event.request)]
            mine.first = now if mine.first < 0 else mine.first
            mine.last = now


def number(request: RequestId) -> int:
    return int(request)
