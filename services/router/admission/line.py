"""The line before the fleet. Pure: the caller says what time it is, brings chance, and asks whether the fleet has room.

    refused <- offer -> WAITING -> take -> LANDING -> land -> PLACED -> leave
                           |                  '-> refuse, leave: no place, and offered again with its old age
                           '-> withdraw: cancelled or expired

Which class: turns.py. Which tenant: the one that was given least for its weight. Which request: the oldest. The first
that does not fit holds up the rest: fair to the large.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from common.core.errors import Reason, Refused
from common.core.ids import RequestId
from common.core.queue import Cause
from common.core.request import RANK, Priority
from services.router.admission.forecast import Forecast
from services.router.admission.limits import AdmissionLimits
from services.router.admission.places import AllPlaces, probe_s
from services.router.admission.queue import ClassQueue, Entry
from services.router.admission.roster import Roster
from services.router.admission.shedding import refuse_hopeless, retry_after_s, shed
from services.router.admission.tenants import Tenants
from services.router.admission.ticket import Ticket, Usage
from services.router.admission.turns import Turns

QUEUE_SHARE = 4.0
"""Chosen: a tenant may have this many times the free places of its class's queue: alone it fills four fifths, and there
is always room left for another."""

SPARE_PLACES = 16
"""Chosen: one place in so many, at least one, is not for tenants that have their share already."""

FIRST_OUTPUT = 64.0
"""Chosen: tokens that an answer is expected to have before one was seen."""

MEMORY = 0.05
"""Weight of the latest request in what is expected of the next. Chosen: the mean of twenty."""

CREDIT = 4.0
"""Chosen: requests that a tenant which was quiet may have at once before it takes turns with the others."""

LATELY_S = 10.0
MAX_LANDINGS = 256
"""Chosen: as far as the forecast looks back, and so many placements of it: a mean of more tells autoscaling no more."""


class Capacity(Protocol):
    """What the fleet can take now. The fleet in production, numbers in tests and simulations."""

    def obstacle(self, num_pages: int, num_tokens: int) -> Cause | None:
        """Why a request for these pages cannot be placed now, with `num_tokens` of others on their way to prefill;
        None: it can. Both include what this line let in and nobody has placed yet."""
        ...

    def places_for(self, priority: Priority) -> int | None:
        """Requests of this class that the workers say they have places for, taken or not; None: they do not say."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Landed:
    """One placement that stands, and how long it had waited."""

    at: float
    wait_s: float


class Line:
    """Writer: the router's event loop, or the simulator."""

    def __init__(self, limits: AdmissionLimits, *, roster: Roster | None = None) -> None:
        self.limits = limits
        self.tenants = Tenants(limits=limits.tenants, roster=roster or Roster.alone())
        self.places = AllPlaces()
        self.cause: Cause | None = None
        """Why the first in line waits; None: nobody does, or it is about to be let in."""
        self._queues = {priority: ClassQueue(priority) for priority in sorted(Priority, key=RANK.__getitem__)}
        self._entries: dict[RequestId, Entry] = {}
        self._landing: dict[RequestId, Entry] = {}
        self._placed: dict[RequestId, Entry] = {}
        self._forecast = Forecast()
        self._landings: deque[_Landed] = deque(maxlen=MAX_LANDINGS)
        self._expected_output = FIRST_OUTPUT
        self._expected_work = 0.0
        self._turns = Turns()

    @property
    def num_active(self) -> int:
        """Requests let in and not gone."""
        return len(self._landing) + len(self._placed)

    @property
    def num_waiting(self) -> int:
        return len(self._entries)

    @property
    def answer_tokens(self) -> int:
        """Length of answers of late, in the mean."""
        return round(self._expected_output)

    def __iter__(self) -> Iterator[Ticket]:
        """Whoever waits."""
        return (entry.ticket for entry in self._entries.values())

    def queue(self, priority: Priority) -> ClassQueue:
        return self._queues[priority]

    # Coming

    def offer(self, ticket: Ticket, now: float, *, chance: float) -> None:
        """Lets it wait. Raises Refused, at once or not at all; `has_run` never. `chance` is uniform in [0, 1)."""
        entry = self._entry(ticket, now)
        tenant = entry.tenant
        if not ticket.has_run:
            self._check(entry, now, chance)
        self.tenants.enter(tenant, ticket, now)
        if not any(queue.length_of(tenant) for queue in self._queues.values()):
            self.tenants.catch_up(tenant, credit=CREDIT * self._expected_work)
        self._entries[ticket.request] = entry
        self._queues[ticket.priority].add(entry)

    def withdraw(self, request: RequestId, now: float) -> None:
        """Somebody who waits leaves: cancelled, or too late. Idempotent."""
        entry = self._entries.pop(request, None)
        if entry is None:
            return
        self._queues[entry.ticket.priority].remove(entry)
        self._end(entry, 0, now)

    def expire(self, now: float) -> tuple[Ticket, ...]:
        """Takes out whose deadline has passed: they never cost a worker anything."""
        late = tuple(entry.ticket for entry in self._entries.values() if now >= entry.ticket.deadline)
        for ticket in late:
            self.withdraw(ticket.request, now)
        return late

    # Going in

    def take(self, now: float, capacity: Capacity) -> Ticket | None:
        """Lets in the next one, if the fleet has room. It is LANDING until `land` or `leave`."""
        entry = self._next(now, capacity)
        while entry is not None and now >= entry.ticket.deadline:
            self.withdraw(entry.ticket.request, now)
            entry = self._next(now, capacity)
        if entry is None:
            return None
        ticket = entry.ticket
        del self._entries[ticket.request]
        waiting = [tenant for queue in self._queues.values() for tenant in queue.tenants()]
        self.tenants.raise_floor(waiting)
        self._queues[ticket.priority].remove(entry)
        entry.tenant.charge(entry.work)
        self._expected_work += MEMORY * (entry.work - self._expected_work)
        entry.tenant.num_active += 1
        self._landing[ticket.request] = entry
        self._forecast.note_admitted(entry.work, now)
        if not self._entries:
            self._forecast.pause(now)
        return ticket

    def assign(self, request: RequestId) -> None:
        """Its leg chose workers: from here on the fleet's own figures include it."""
        if (entry := self._landing.get(request)) is not None:
            entry.is_assigned = True

    def land(self, request: RequestId, now: float) -> None:
        """Workers took it. Idempotent."""
        if (entry := self._landing.pop(request, None)) is not None:
            self._placed[request] = entry
            self.places.note_landed(entry.ticket.priority, len(self._placed))
            self._landings.append(_Landed(at=now, wait_s=now - entry.offered))

    def refuse(self, request: RequestId, now: float) -> float:
        """No worker had a place for it: the fleet is fuller than it looked. `leave` follows. Seconds until the next one
        may try, if nobody leaves before."""
        if (entry := self._landing.get(request)) is None:
            return 0.0
        priority, num_placed = entry.ticket.priority, len(self._placed)
        self.places.note_refused(priority, num_placed, now)
        return probe_s(priority, num_placed)

    def leave(self, request: RequestId, usage: Usage, now: float) -> None:
        """Its placement is over. What was charged is corrected to what it used."""
        entry = self._landing.pop(request, None) or self._placed.pop(request)
        entry.tenant.num_active -= 1
        entry.tenant.charge(usage.work(entry.ticket) - entry.work)
        if usage.generated_tokens:
            self._expected_output += MEMORY * (usage.generated_tokens - self._expected_output)
        self._end(entry, usage.generated_tokens, now)

    # Looking

    def wait_s(self, ticket: Ticket, now: float) -> float | None:
        """Predicted time until a new request would be let in; 0 while nobody waits, None: not known."""
        return self._wait_s(self._entry(ticket, now), now)

    def drain_s(self, priority: Priority, now: float) -> float | None:
        """Predicted time until those of this class who wait now are let in; None: not known."""
        if not len(self._queues[priority]):
            return 0.0
        above = [queue for each, queue in self._queues.items() if RANK[each] <= RANK[priority]]
        return self._forecast.seconds(sum(queue.work() for queue in above), now)

    def landing_s(self, now: float) -> float | None:
        """How long those who got a place lately had waited for it, in the mean; None: nobody did."""
        lately = [landed.wait_s for landed in self._landings if landed.at >= now - LATELY_S]
        return sum(lately) / len(lately) if lately else None

    def _entry(self, ticket: Ticket, now: float) -> Entry:
        tenant = self.tenants.find(ticket.tenant, now)
        return Entry(ticket=ticket, tenant=tenant, work=ticket.work(self._expected_output), offered=now)

    def _wait_s(self, entry: Entry, now: float) -> float | None:
        """Higher classes go first; in the class, each tenant's queue as far as its share reaches. Not known where
        nobody serves: how fast those did who are gone says nothing."""
        if not self._entries:
            return 0.0
        if self.cause is Cause.NO_WORKERS:
            return None
        rank = RANK[entry.ticket.priority]
        ahead = sum(queue.work() for each, queue in self._queues.items() if RANK[each] < rank)
        ahead += self._queues[entry.ticket.priority].work_before(entry.tenant, entry.work)
        return self._forecast.seconds(ahead, now)

    def _check(self, entry: Entry, now: float, chance: float) -> None:
        """Everything for which a new request is turned away."""
        ticket, limits = entry.ticket, self.limits.classes[entry.ticket.priority]
        wait_s = self._wait_s(entry, now)
        if self._entries or self.num_active >= self.limits.max_active:
            self._check_full(entry, retry_after_s(wait_s, chance))
        shed(ticket, wait_s=wait_s, promise_s=limits.ttft_s, cause=self.cause, chance=chance)
        refuse_hopeless(ticket, wait_s=wait_s, now=now, chance=chance)
        self.tenants.check(entry.tenant, ticket, now, chance=chance)

    def _check_full(self, entry: Entry, retry_s: float) -> None:
        priority = entry.ticket.priority
        queue, limits = self._queues[priority], self.limits.classes[priority]
        free = limits.max_queue - len(queue)
        if free <= 0:
            raise _full(f"the {priority} queue is full: {limits.max_queue} requests wait", f"queue:{priority}", retry_s)
        if queue.num_tokens + entry.ticket.num_tokens > limits.max_tokens and len(queue):
            why = f"the {priority} queue is full: {queue.num_tokens} of {limits.max_tokens} tokens wait"
            raise _full(why, f"queue_tokens:{priority}", retry_s)
        if (mine := queue.length_of(entry.tenant)) >= QUEUE_SHARE * free:
            why = f"tenant {entry.tenant.id} has {mine} requests in the {priority} queue, {free} places are left"
            raise _full(why, f"queue:{priority}:tenant", retry_s)

    def _next(self, now: float, capacity: Capacity) -> Entry | None:
        """The one to let in now. None, and `cause` says why, when nobody can be."""
        occupied = [queue for queue in self._queues.values() if len(queue)]
        self.cause = None
        for entry, holds_up in self._turns.candidates(occupied, now):
            obstacle = self._obstacle(entry, capacity, now)
            if obstacle is None:
                self._turns.count(entry, occupied, now)
                self.cause = None
                return entry
            self.cause = self.cause or obstacle
            if obstacle is Cause.NO_WORKERS:
                self._forecast.pause(now)
            else:
                self._forecast.note_held(now)
            if holds_up:
                return None
        return None

    def _obstacle(self, entry: Entry, capacity: Capacity, now: float) -> Cause | None:
        """The cheap questions first: this is asked whenever a worker says something."""
        ticket = entry.ticket
        if self.num_active >= self.limits.max_active:
            return Cause.ROUTER_FULL
        num_landing = len(self._landing)
        if not self.places.has_room(ticket.priority, num_active=self.num_active, num_landing=num_landing, now=now):
            return Cause.DECODE_FULL
        if self._crowds_out(entry, capacity, now):
            return Cause.DECODE_FULL
        ahead = [each.ticket for each in self._landing.values() if not each.is_assigned]
        return capacity.obstacle(
            ticket.num_pages + sum(each.num_pages for each in ahead), sum(each.uncached_tokens for each in ahead)
        )

    def _crowds_out(self, entry: Entry, capacity: Capacity, now: float) -> bool:
        """Whether a tenant that has its share of a full fleet wants the last places, which are kept for the others:
        one that asks seldom then need not wait until somebody leaves."""
        priority = entry.ticket.priority
        known = [limit for limit in (self.places.limit(priority), capacity.places_for(priority)) if limit is not None]
        limit = min(known, default=None)
        num_tenants = self.tenants.num_recent(now)
        if limit is None or num_tenants < 2 or entry.ticket.has_run:
            return False
        num_mine = entry.tenant.num_active
        if not num_mine or (num_mine + 1) * num_tenants <= limit:
            return False
        return self.num_active >= limit - max(limit // SPARE_PLACES, 1) > 0

    def _end(self, entry: Entry, generated_tokens: int, now: float) -> None:
        self.tenants.leave(entry.tenant, entry.ticket, generated_tokens, now)
        if not self._entries:
            self.cause = None
            self._forecast.pause(now)


def _full(why: str, subject: str, retry_s: float) -> Refused:
    return Refused(message=why, reason=Reason.QUEUE_FULL, quota_subject=subject, retry_after_s=retry_s)
