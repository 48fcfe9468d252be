"""The least core that drives a batch: prompts in order of arrival, chunked beside the rows that write."""

from dataclasses import dataclass

from common.core.clock import Clock
from common.core.errors import InternalError
from common.core.ids import RequestId, SequenceId
from common.core.request import Work
from common.core.worker import LoadReport
from common.engine.batch import Batch
from common.engine.look import Look
from common.engine.plan import BatchPlan, Extend
from common.kv.cache import PageCache


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A token of a request, `at` when its step had ended."""

    request: RequestId
    at: float
    is_last: bool


class EngineCore:
    """StepCore without promises, preemption or a router. Writer of the batch: the step loop.

    What it measures is the engine: `Batch`, executor and `StepThread` are those of a worker.
    """

    def __init__(self, *, batch: Batch, cache: PageCache, chunk_tokens: int, clock: Clock) -> None:
        self._batch = batch
        self._cache = cache
        self._chunk_tokens = chunk_tokens
        self._clock = clock
        self._reading: dict[SequenceId, None] = {}
        self._writing: dict[SequenceId, None] = {}
        self._events: list[Written] = []

    def start(self, work: Work) -> None:
        """Take a request. Pages are not promised: the pool must be large enough for what is measured."""
        sequence = self._batch.add(work, arrived=self._clock.monotonic())
        self._batch.begin(sequence)
        self._reading[sequence] = None

    def cancel(self, request: RequestId) -> None:
        """Forget a request, if it is still here."""
        sequence = SequenceId(request)
        if sequence in self._batch:
            self._reading.pop(sequence, None)
            self._writing.pop(sequence, None)
            self._batch.retire(sequence)

    def advance(self) -> bool:
        """One step over all rows. Raises InternalError when pages or a row fail: a benchmark has no second try."""
        if not self._reading and not self._writing:
            return False
        outcome = self._batch.run(BatchPlan(extend=self._extends(), decode=tuple(self._writing)))
        if outcome.failed or outcome.deferred:
            raise InternalError(message=f"{len(outcome.failed)} rows failed, {len(outcome.deferred)} found no page")
        now = self._clock.monotonic()
        for draw in outcome.drawn:
            self._reading.pop(draw.source, None)
            self._writing[draw.source] = None
            if draw.finish is not None:
                del self._writing[draw.source]
            self._events.append(Written(request=draw.work.request, at=now, is_last=draw.finish is not None))
        self._batch.proceed(outcome.drawn)
        return True

    def _extends(self) -> tuple[Extend, ...]:
        """The oldest prompts share the budget."""
        extends, room = [], self._chunk_tokens
        for sequence in self._reading:
            num_tokens = min(room, self._batch.view(sequence).num_pending)
            if num_tokens == 0:
                break
            extends.append(Extend(sequence=sequence, num_tokens=num_tokens))
            room -= num_tokens
        return tuple(extends)

    def take_events(self) -> tuple[Written, ...]:
        events, self._events = tuple(self._events), []
        return events

    def look(self) -> Look:
        running = len(self._reading) + len(self._writing)
        return Look(load=LoadReport(pages=self._cache.counts(), running_sequences=running), counters={})
