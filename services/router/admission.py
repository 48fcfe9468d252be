"""The queue: who may be placed next, how many at once, and who is told at once that there is no room.

    refused <- new -> WAITING -> ADMITTED -> released
                         ^          |
                         '- waits again, with its old age (no pages, worker lost, reader paused)

Strict classes, oldest first within a class. Ageing moves a request up one class per AGEING_S waited, so that nobody
starves. A request whose deadline passes while it waits leaves the queue and never costs a worker anything.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from common.core.clock import Clock
from common.core.errors import DeadlineExceeded, Reason, Refused, Unavailable
from common.core.ids import RequestId
from common.core.request import Priority

AGEING_S = 5.0
"""Chosen: an interactive request waits behind batch work only when that is 10 s older."""

RATE_WINDOW = 64
"""Chosen: admissions from which the queue's speed is estimated; enough to be steady, few enough to follow a change."""

MAX_RETRY_AFTER_S = 30.0

_RANK = {Priority.INTERACTIVE: 0, Priority.STANDARD: 1, Priority.BATCH: 2}


class Capacity(Protocol):
    """What the fleet can take now. The fleet in production, numbers in tests."""

    def can_take(self, num_pages: int) -> bool:
        """Whether some decode worker would promise this many pages, and prefill is not swamped."""
        ...

    def absent_s(self) -> float:
        """For how long no decode worker has been usable; 0 while one is."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """One placement that wants in. `has_run`: placed before, so never refused, and waits for workers to return."""

    request: RequestId
    priority: Priority
    arrived: float
    deadline: float
    num_pages: int
    num_tokens: int = 0
    has_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionLimits:
    """Ceilings of the queue, per class, and of what is placed at the same time."""

    max_queue: Mapping[Priority, int]
    max_active: int
    absence_grace_s: float = 10.0
    """How long a new request waits for a first decode worker before UNAVAILABLE. Chosen: a process restarts in it."""


@dataclass(eq=False, slots=True)
class _Waiter:
    ticket: Ticket
    turn: asyncio.Event = field(default_factory=asyncio.Event)


class Admission:
    """Writer: the event loop's thread. `pump` must be called whenever the fleet changed."""

    def __init__(self, *, limits: AdmissionLimits, capacity: Capacity, clock: Clock) -> None:
        self._limits = limits
        self._capacity = capacity
        self._clock = clock
        self._waiting: list[_Waiter] = []
        self._num_active = 0
        self._admitted: deque[float] = deque(maxlen=RATE_WINDOW)

    @property
    def num_active(self) -> int:
        return self._num_active

    def depth(self, priority: Priority) -> int:
        """Requests of one class that wait."""
        return sum(waiter.ticket.priority is priority for waiter in self._waiting)

    def waiting(self) -> tuple[Ticket, ...]:
        """Whoever waits now: for the queue's depth as autoscaling sees it."""
        return tuple(waiter.ticket for waiter in self._waiting)

    @asynccontextmanager
    async def turn(self, ticket: Ticket) -> AsyncIterator[None]:
        """Waits for its turn; holds one of `max_active` places inside the block.

        Raises Refused (queue full), DeadlineExceeded (waited too long), Unavailable (no decode worker for a while).
        """
        waiter = _Waiter(ticket=ticket)
        if not ticket.has_run:
            self._refuse_if_full(ticket)
        self._waiting.append(waiter)
        self.pump()
        try:
            await self._wait_turn(waiter)
            yield
        finally:
            self._leave(waiter)

    def pump(self) -> None:
        """Admits whoever may start now, in order. The first that does not fit holds up the rest: fair to the large."""
        now = self._clock.monotonic()
        while self._waiting and self._num_active < self._limits.max_active:
            waiter = min(self._waiting, key=lambda waiter: _order(waiter.ticket, now))
            if not self._capacity.can_take(waiter.ticket.num_pages):
                return
            self._waiting.remove(waiter)
            self._num_active += 1
            self._admitted.append(now)
            waiter.turn.set()

    def retry_after_s(self, priority: Priority) -> float:
        """When trying again makes sense: the time that the queue needs to drain, by the speed of late."""
        if len(self._admitted) < 2:
            return 1.0
        span_s = max(self._clock.monotonic() - self._admitted[0], 1e-3)
        return min(max((self.depth(priority) + 1) * span_s / len(self._admitted), 0.1), MAX_RETRY_AFTER_S)

    async def _wait_turn(self, waiter: _Waiter) -> None:
        ticket = waiter.ticket
        while not waiter.turn.is_set():
            remaining_s = ticket.deadline - self._clock.monotonic()
            if remaining_s <= 0:
                raise DeadlineExceeded(message=f"request {ticket.request} waited for a worker until its deadline")
            wait_s = remaining_s
            if not ticket.has_run:
                wait_s = min(remaining_s, self._grace_left_s())
            try:
                async with asyncio.timeout(wait_s):
                    await waiter.turn.wait()
            except TimeoutError:
                continue

    def _grace_left_s(self) -> float:
        grace_s = self._limits.absence_grace_s
        left_s = grace_s - self._capacity.absent_s()
        if left_s <= 0:
            raise Unavailable(
                message=f"no decode worker for {grace_s:.0f} s", reason=Reason.NO_WORKERS, retry_after_s=2.0
            )
        return left_s

    def _refuse_if_full(self, ticket: Ticket) -> None:
        limit = self._limits.max_queue[ticket.priority]
        can_start = self._num_active < self._limits.max_active and not self._waiting
        if can_start or self.depth(ticket.priority) < limit:
            return
        raise Refused(
            message=f"the {ticket.priority} queue is full: {limit} requests wait",
            reason=Reason.QUEUE_FULL,
            quota_subject=f"queue:{ticket.priority}",
            retry_after_s=self.retry_after_s(ticket.priority),
        )

    def _leave(self, waiter: _Waiter) -> None:
        if waiter.turn.is_set():
            self._num_active -= 1
        else:
            self._waiting.remove(waiter)
        self.pump()


def _order(ticket: Ticket, now: float) -> tuple[float, float, RequestId]:
    waited_s = now - ticket.arrived
    return _RANK[ticket.priority] - waited_s // AGEING_S, ticket.arrived, ticket.request
