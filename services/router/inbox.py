"""Where the workers' streams fan out to requests."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from common.core.errors import InternalError
from common.core.events import WorkEvent
from common.core.ids import RequestId, WorkerRef

MAX_QUEUED = 4096
"""Chosen: seconds of tokens at any rate. A leg only awaits a placement call, so it is never that far behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLost:
    """The stream from a worker broke or fell silent: nothing that it still holds for us counts."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Draining:
    """The worker leaves: in `left_s` it cuts what is not over. `step_s`: how long its last step took."""

    left_s: float
    step_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One event, and who sent it: index 0 comes from prefill, and again from decode."""

    worker: WorkerRef
    event: WorkEvent | WorkerLost | Draining


class Inbox:
    """Events of one work, from the workers that hold it. Writer: the switchboard; reader: the work's leg."""

    def __init__(self) -> None:
        self._arrivals: asyncio.Queue[Arrival] = asyncio.Queue(MAX_QUEUED)
        self._is_overrun = False
        self.watched: set[WorkerRef] = set()

    def put(self, arrival: Arrival) -> None:
        try:
            self._arrivals.put_nowait(arrival)
        except asyncio.QueueFull:
            self._is_overrun = True

    async def next(self) -> Arrival:
        """The next arrival; the caller's deadline bounds the wait. Raises InternalError when events were lost."""
        self._check()
        return await self._arrivals.get()  # bounded: by the journey's deadline

    def next_nowait(self) -> Arrival | None:
        self._check()
        return None if self._arrivals.empty() else self._arrivals.get_nowait()

    def _check(self) -> None:
        if self._is_overrun:
            raise InternalError(message=f"a leg fell {MAX_QUEUED} events behind its workers")


class Switchboard:
    """Inboxes by work id. Events for a work that nobody follows any more are dropped: that is the fence."""

    def __init__(self) -> None:
        self._inboxes: dict[RequestId, Inbox] = {}
        self.num_dropped = 0

    @contextmanager
    def open(self, work: RequestId) -> Iterator[Inbox]:
        """An inbox for one work, as long as the block lasts."""
        assert work not in self._inboxes, f"{work} is followed twice"
        inbox = self._inboxes[work] = Inbox()
        try:
            yield inbox
        finally:
            del self._inboxes[work]

    def deliver(self, worker: WorkerRef, event: WorkEvent) -> None:
        inbox = self._inboxes.get(event.request)
        if inbox is None or worker not in inbox.watched:
            self.num_dropped += 1
            return
        inbox.put(Arrival(worker=worker, event=event))

    def lose(self, worker: WorkerRef, reason: str) -> None:
        """Tells every leg that counts on this worker."""
        self._tell(worker, WorkerLost(reason=reason))

    def warn(self, worker: WorkerRef, draining: Draining) -> None:
        """The same, while there is still time to move."""
        self._tell(worker, draining)

    def _tell(self, worker: WorkerRef, event: WorkerLost | Draining) -> None:
        for inbox in self._inboxes.values():
            if worker in inbox.watched:
                inbox.put(Arrival(worker=worker, event=event))
