"""A machine without steps: prompts are read one after the other, answers take as long as the batch then running.

For routing alone: a few events per request instead of one per step. Caches, pages and what the policy sees are the same
as with steps; times are what a queue of this length would give.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from common.core.cost.model import CostModel
from common.core.ids import WorkerRef
from common.core.worker import LoadReport, Role
from common.directory.owners import Slot
from services.simulator.context import Context
from services.simulator.outcome import MachineTally
from services.simulator.pages import CountedPages

Later = Callable[[float, Callable[[], None]], None]
"""Asks the event loop to call something at a time."""


@dataclass(eq=False, slots=True)
class _Reading:
    context: Context
    on_read: Callable[[int], None]


class FlowMachine:
    """Reads prompts in order of arrival and writes answers beside them. Writer: the event loop."""

    def __init__(
        self,
        ref: WorkerRef,
        role: Role,
        *,
        slot: Slot,
        pages: CountedPages,
        page_size: int,
        cost: CostModel,
        chunk_tokens: int,
        later: Later,
    ) -> None:
        self.ref = ref
        self.role = role
        self.slot = slot
        self.pages = pages
        self.tally = MachineTally(name=ref.worker)
        self._page_size = page_size
        self._cost = cost
        self._chunk_tokens = chunk_tokens
        self._later = later
        self._queue: deque[_Reading] = deque()
        self._is_reading = False
        self._num_running = 0
        self._context_tokens = 0
        self.version = 0
        """Grows whenever `report` would say something else."""

    def report(self) -> LoadReport:
        """As the machine itself would publish it."""
        return LoadReport(
            pages=self.pages.counts(),
            waiting_requests=len(self._queue),
            waiting_tokens=sum(reading.context.num_unread for reading in self._queue),
            running_sequences=self._num_running,
            cost=self._cost,
            context_tokens=self._context_tokens,
        )

    def post(self, command: Callable[[], None]) -> None:
        """At once: there are no steps to wait for."""
        command()
        self.version += 1

    def read(self, now: float, context: Context, on_read: Callable[[int], None]) -> None:
        """Queue a prompt whose pages are promised; `on_read` hears how many of its tokens the cache had."""
        context.foresee(self.pages, (reading.context for reading in self._queue), self._page_size)
        self._queue.append(_Reading(context, on_read))
        self.version += 1
        if not self._is_reading:
            self._start(now)

    def _start(self, now: float) -> None:
        reading = self._queue[0]
        context = reading.context
        self._is_reading = True
        promised = context.private_pages
        context.begin(self.pages, self._page_size)
        # What the cache has need not be computed into a page of its own.
        self.pages.forgo(context.pages_held)
        self.pages.fulfil(promised - context.pages_held)
        context.pages_held = promised
        context.private_pages = promised - len(context.named)
        uncached = context.num_pending
        self.tally.requests += 1
        self.tally.prompt_tokens += context.prompt_tokens
        self.tally.uncached_tokens += uncached
        seconds = self._cost.prefill_seconds(uncached, context.num_cached, chunk_tokens=self._chunk_tokens)
        if self._num_running:
            seconds += self._beside_s(uncached)
        self._later(now + seconds, lambda: self._finish(now + seconds))

    def _beside_s(self, uncached: int) -> float:
        """Running answers share the steps of a prompt: their part of each comes on top."""
        step_s = self._cost.decode_step_seconds(self._num_running, self._context_tokens)
        return (step_s - self._cost.step_s) * -(-uncached // self._chunk_tokens)

    def _finish(self, now: float) -> None:
        reading = self._queue.popleft()
        self._is_reading = False
        self.version += 1
        reading.context.num_pending = 0
        reading.context.name_full(self.pages, self._page_size)
        reading.on_read(reading.context.num_cached)
        if self._queue and not self._is_reading:
            self._start(now)

    def land(self, context: Context) -> None:
        """A context whose pages another machine read has arrived."""
        self.pages.fulfil(context.private_pages)
        context.num_pending = 0
        context.name_full(self.pages, self._page_size)
        self.version += 1

    def write(self, now: float, context: Context, num_tokens: int, on_written: Callable[[float], None]) -> None:
        """Write an answer of so many tokens."""
        self._num_running += 1
        self._context_tokens += context.prompt_tokens
        self.version += 1
        end = now + num_tokens * self._cost.decode_step_seconds(self._num_running, self._context_tokens)
        self._later(end, lambda: self._written(end, context, on_written))

    def _written(self, now: float, context: Context, on_written: Callable[[float], None]) -> None:
        self._num_running -= 1
        self._context_tokens -= context.prompt_tokens
        self.version += 1
        context.give_back(self.pages)
        on_written(now)
