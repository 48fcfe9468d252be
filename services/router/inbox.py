"""Where the workers' streams fan out to requests."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto

from common.core.errors import InternalError
from common.core.events import WorkEvent
from common.core.ids import RequestId, WorkerRef

MAX_QUEUED = 4096
"""Chosen: seconds of tokens at any rate. A leg only awaits a placement call, so it is never that far behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLost:
    """The stream from a worker broke or fell silent: nothing that it still holds for us counts. `is_leaving`: it had
    said that it leaves."""

    reason: str
    is_leaving: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Draining:
    """The worker leaves: in `left_s` of its `grace_s` it cuts what is not over. `step_s`: how long its last step took;
    `num_sequences`: what it still writes, for whomever."""

    left_s: float
    grace_s: float
    step_s: float
    num_sequences: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One event, and who sent it: index 0 comes from prefill, and again from decode."""

    worker: WorkerRef
    event: WorkEvent | WorkerLost | Draining


class Taking(Enum):
    """What became of an event that was offered to a leg while it waits."""

    TAKEN = auto()
    OVER = auto()
    """Taken, and the leg has what it waited for."""
    REFUSED = auto()
    """The leg has to wait for somebody to act upon it."""


TakeAtOnce = Callable[[WorkerRef, WorkEvent], Taking]


class Inbox:
    """Events of one work, from the workers that hold it. Writer: the switchboard; reader: the work's leg.

    An event that comes while the leg waits is offered to it at once: a token costs no change of tasks. What it does not
    take then, and all that comes while it is busy, is queued, so nothing overtakes anything.
    """

    def __init__(self) -> None:
        self._arrivals: deque[Arrival] = deque()
        self._is_overrun = False
        self._is_over = False
        self._failure: Exception | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._take_at_once: TakeAtOnce | None = None
        self.watched: set[WorkerRef] = set()
        self.num_left: Callable[[], int] = _nothing
        """Tokens that the work may still get: set by its leg."""

    def put(self, worker: WorkerRef, event: WorkEvent) -> None:
        """An event of a watched worker. What goes wrong in the leg is the leg's: its wait raises it."""
        waiting = self._waiting
        if waiting is not None and not waiting.done() and self._take_at_once is not None:
            try:
                taking = self._take_at_once(worker, event)
            except Exception as error:  # noqa: BLE001  # carried to the leg
                self._failure = error
                taking = Taking.OVER
            if taking is Taking.OVER:
                self._is_over = True
                waiting.set_result(None)
            if taking is not Taking.REFUSED:
                return
        self.queue(Arrival(worker=worker, event=event))

    def queue(self, arrival: Arrival) -> None:
        """Behind everything that waits already."""
        if len(self._arrivals) == MAX_QUEUED:
            self._is_overrun = True
            return
        self._arrivals.append(arrival)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def next(self, take_at_once: TakeAtOnce) -> Arrival | None:
        """The next arrival that `take_at_once` left; None once that said that it is over.

        The caller's deadline bounds the wait. Raises InternalError when events were lost, and what `take_at_once`
        raised.
        """
        if not (self._arrivals or self._is_overrun):
            self._is_over = False
            self._take_at_once = take_at_once
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting  # bounded: by the journey's deadline
            finally:
                self._waiting = self._take_at_once = None
            if self._failure is not None:
                raise self._take_failure()
            if self._is_over:
                return None
        return self.next_nowait()

    def leave(self) -> None:
        """Nobody reads any more: the leg, which keeps its inbox, is not kept by it."""
        self.num_left = _nothing

    def _take_failure(self) -> Exception:
        """What went wrong, which is not kept: its trace leads to the leg, and so back here."""
        assert self._failure is not None
        failure, self._failure = self._failure, None
        return failure

    def next_nowait(self) -> Arrival | None:
        if self._is_overrun:
            raise InternalError(message=f"a leg fell {MAX_QUEUED} events behind its workers")
        return self._arrivals.popleft() if self._arrivals else None


def _nothing() -> int:
    return 0


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
            inbox.leave()

    def deliver(self, worker: WorkerRef, events: Iterable[WorkEvent]) -> None:
        """What one message of one worker said."""
        for event in events:
            inbox = self._inboxes.get(event.request)
            if inbox is None or worker not in inbox.watched:
                self.num_dropped += 1
            else:
                inbox.put(worker, event)

    def lose(self, worker: WorkerRef, reason: str, *, is_leaving: bool = False) -> None:
        """Tells every leg that counts on this worker."""
        self._tell(worker, WorkerLost(reason=reason, is_leaving=is_leaving))

    def warn(self, worker: WorkerRef, draining: Draining) -> None:
        """The same, while there is still time to move: in this order legs ask for their way out."""
        self._tell(worker, draining, by=lambda inbox: -inbox.num_left())

    def _tell(
        self, worker: WorkerRef, event: WorkerLost | Draining, *, by: Callable[[Inbox], int] | None = None
    ) -> None:
        meant = [inbox for inbox in self._inboxes.values() if worker in inbox.watched]
        for inbox in meant if by is None else sorted(meant, key=by):
            inbox.queue(Arrival(worker=worker, event=event))
