"""What is remembered of a request: stations, decisions, usage. For operators, metrics and the last message."""

from collections import OrderedDict, deque
from dataclasses import dataclass

from common.core.clock import Clock
from common.core.errors import BatonError, Cancelled, Reason, Refused
from common.core.events import PrefillDone, StationReached
from common.core.ids import RequestId, WorkerRef
from common.observe import catalogue
from common.observe.latency import observe_reached, observe_whole
from common.observe.lifetime import Lifetime, Mark, Station
from common.observe.registry import Metrics
from services.router.delta import Delta
from services.router.policy import Decision
from services.router.request import Request
from services.router.request_class import RequestClass

MAX_DECISIONS = 8
"""Chosen: a request that was placed more often is explained by its last placements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A decision, and the attempt that it was made for."""

    attempt: int
    decision: Decision


class Record:
    """One request. Writer: its journey."""

    def __init__(self, request: Request, *, clock: Clock, metrics: Metrics, where: str) -> None:
        self.request = request
        self.lifetime = Lifetime(request.id, clock=clock, where=where)
        self.decisions: deque[Placed] = deque(maxlen=MAX_DECISIONS)
        self.cached_tokens = 0
        self.num_output = 0
        self.num_placements = 0
        self.outcome = "running"
        self.where = where
        self._metrics = metrics
        self._clock = clock
        self._has_read_prompt = False
        self._last_token_at: dict[int, float] = {}
        self._moved: dict[int, str] = {}
        self._class: RequestClass | None = None
        self._count_tokens = metrics.adder(catalogue.GENERATED_TOKENS)
        self._observe_itl = metrics.observer(catalogue.ITL_SECONDS, priority=request.priority)
        self.lifetime.take(Mark(station=Station.RECEIVED, at=request.received, where=where))
        metrics.add(catalogue.REQUESTS_RECEIVED)
        metrics.observe(catalogue.PROMPT_LENGTH, len(request.prompt))

    def mark(self, station: Station, **facts: float) -> None:
        """A station reached at this router. A retry passes some again: durations end at the first."""
        is_first = self.lifetime.first(station) is None
        self.lifetime.mark(station, **facts)
        if is_first:
            observe_reached(self._metrics, self.lifetime, station, self.request.priority)

    def note_class(self, found: RequestClass) -> None:
        """What kind of request it is, once per request."""
        self._class = found
        declared = "same" if found.priority is self.request.priority else "higher"
        self._metrics.add(catalogue.REQUESTS_CLASSIFIED, priority=found.priority, size=found.size, declared=declared)

    def note_decision(self, attempt: int, decision: Decision) -> None:
        self.num_placements += 1
        self.decisions.append(Placed(attempt=attempt, decision=decision))
        self._metrics.add(catalogue.PLACEMENTS, route="remote" if decision.route.prefill else "local")
        chosen = decision.chosen
        self._metrics.add(catalogue.COST_SOURCES, source=chosen.cost_source)
        self.mark(Station.ROUTED, attempt=attempt, candidates=len(decision.candidates), cost_s=chosen.cost_s)

    def note_borrowed(self, outcome: str) -> None:
        """Cached pages of another worker were asked for."""
        self._metrics.add(catalogue.PREFIX_TICKETS, outcome=outcome)

    def note_setback(self, cause: BatonError) -> None:
        self._metrics.add(catalogue.RETRIES, reason=cause.reason)
        self.mark(Station.RETRIED)

    def note_moved(self, choice: int, *, with_pages: bool) -> None:
        """A choice left a worker that drains, with the pages of its tokens or to be read again."""
        self._moved[choice] = outcome = "pages" if with_pages else "recomputed"
        self._metrics.add(catalogue.CHOICES_MOVED, outcome=outcome)
        self.mark(Station.MOVED, choice=choice, with_pages=with_pages)

    def note_passed_on(self) -> None:
        """The prompt left a prefill worker that drains before it was read."""
        self._metrics.add(catalogue.PROMPTS_PASSED_ON)
        self.mark(Station.MOVED, prompt=1)

    def note_stale(self) -> None:
        """An event of an attempt or a worker that this request has given up."""
        self._metrics.add(catalogue.STALE_REFUSED, fence="attempt")

    def note_event(self, worker: WorkerRef, event: PrefillDone | StationReached) -> None:
        """A worker's news about the request. Cached tokens are those of the first reading: a retry finds its own."""
        if isinstance(event, StationReached):
            self.lifetime.take(Mark(station=event.name, at=event.at, where=worker.worker, facts=event.facts))
        elif not self._has_read_prompt:
            self._has_read_prompt = True
            self.cached_tokens = min(event.cached_tokens, len(self.request.prompt))

    def note_delta(self, delta: Delta) -> None:
        """Tokens on their way to the client."""
        now, num_tokens = self._clock.monotonic(), len(delta.tokens)
        if not self._last_token_at:
            self.mark(Station.FIRST_TOKEN)
        if (last := self._last_token_at.get(delta.choice)) is not None and num_tokens:
            self._observe_itl((now - last) / num_tokens)
            if self._moved and (outcome := self._moved.pop(delta.choice, None)) is not None:
                self._metrics.observe(catalogue.MOVE_GAP_SECONDS, now - last, outcome=outcome)
        self._last_token_at[delta.choice] = now
        self._count_tokens(num_tokens)
        if delta.finish is not None:
            self._metrics.add(catalogue.CHOICES_FINISHED, reason=delta.finish)
            self._metrics.observe(catalogue.OUTPUT_LENGTH, delta.first_index + num_tokens)

    def finish(self, error: BatonError | None, *, num_output: int, num_duplicates: int) -> None:
        """The request's one end. received = finished + failed + cancelled + refused + in flight."""
        self.num_output = num_output
        self.mark(Station.FINISHED, output=num_output, placements=self.num_placements)
        self._metrics.add(catalogue.DUPLICATE_TOKENS, num_duplicates)
        self.outcome = "ok" if error is None else error.reason.value
        if error is not None and error.reason is Reason.SLOW_READER:
            self._metrics.add(catalogue.SLOW_READERS)
        match error:
            case None:
                self._metrics.add(catalogue.REQUESTS_FINISHED)
                observe_whole(self._metrics, self.lifetime, self.request.priority)
                self._count_goodput()
            case Cancelled():
                self._metrics.add(catalogue.REQUESTS_CANCELLED)
            case Refused():
                self._metrics.add(catalogue.REQUESTS_REFUSED, reason=error.reason)
            case _:
                self._metrics.add(catalogue.REQUESTS_FAILED, reason=error.reason)

    def _count_goodput(self) -> None:
        """Whether the class's promise was kept: the first token in time, and the others fast enough in the mean."""
        if self._class is None:
            return
        targets = self._class.targets
        ttft_s = self.lifetime.seconds(Station.RECEIVED, Station.FIRST_TOKEN)
        writing_s = self.lifetime.seconds(Station.FIRST_TOKEN, Station.FINISHED)
        num_gaps = max(self.num_output // len(self.request.choices) - 1, 1)
        if ttft_s is None or writing_s is None:
            return
        if ttft_s <= targets.ttft_s and writing_s <= targets.itl_s * num_gaps:
            self._metrics.add(catalogue.REQUESTS_WITHIN_TARGETS, priority=self._class.priority)


class RecentRecords:
    """A bounded ring, running requests included; the oldest leaves first. Writer: the dispatcher."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._records: OrderedDict[RequestId, Record] = OrderedDict()

    def add(self, record: Record) -> None:
        """A reused request id replaces the older one."""
        self._records.pop(record.request.id, None)
        self._records[record.request.id] = record
        while len(self._records) > self._size:
            self._records.popitem(last=False)

    def find(self, request: RequestId) -> Record | None:
        return self._records.get(request)
