"""The thin shell around the line: coroutines that wait in it, and what wakes them.

async with admission.turn(ticket) as place:      waits, or raises at once
    ... place.note_assigned(), place.note_landed() ...
a LegBroken(REFUSED) that leaves the block teaches the line that the fleet is full
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from common.core.clock import Clock
from common.core.entropy import Entropy
from common.core.errors import DeadlineExceeded, Reason, Unavailable
from common.core.ids import RequestId
from common.core.request import Priority
from common.core.waiting import wait_set
from services.router.admission.limits import AdmissionLimits
from services.router.admission.line import Capacity, Line
from services.router.admission.roster import Roster
from services.router.admission.ticket import Ticket, Usage
from services.router.setback import LegBroken, Setback

CHANCE_BITS = 32


class Presence(Capacity, Protocol):
    """What the shell asks beyond the line's own questions. The router's fleet in production, numbers in tests."""

    def absent_s(self) -> float:
        """For how long no decode worker has been usable; 0 while one is."""
        ...


class Place:
    """One request's place, inside its turn. Writer: its journey. `generated_tokens` is what the leg delivered."""

    def __init__(self, admission: "Admission", ticket: Ticket) -> None:
        self._admission = admission
        self.ticket = ticket
        self.generated_tokens = 0

    @property
    def answer_tokens(self) -> int:
        """Length of answers of late, in the mean."""
        return self._admission.line.answer_tokens

    def note_assigned(self) -> None:
        """Workers were chosen, and the fleet counts the request: the next in line may be looked at."""
        self._admission.line.assign(self.ticket.request)
        self._admission.pump()

    def note_landed(self) -> None:
        """Workers took the request."""
        self._admission.note_landed(self.ticket.request)


class Admission:
    """Writer of the line: the event loop's thread. `pump` must be called whenever the fleet changed."""

    def __init__(
        self,
        *,
        limits: AdmissionLimits,
        fleet: Presence,
        clock: Clock,
        entropy: Entropy,
        roster: Roster | None = None,
    ) -> None:
        self.line = Line(limits, roster=roster)
        self._fleet = fleet
        self._clock = clock
        self._entropy = entropy
        self._turns: dict[RequestId, asyncio.Event] = {}

    @property
    def num_active(self) -> int:
        return self.line.num_active

    def depth(self, priority: Priority) -> int:
        """Requests of one class that wait."""
        return len(self.line.queue(priority))

    def waiting(self) -> tuple[Ticket, ...]:
        """Whoever waits now."""
        return tuple(self.line)

    @asynccontextmanager
    async def turn(self, ticket: Ticket) -> AsyncIterator[Place]:
        """Waits for its turn; holds one of the places inside the block.

        Raises Refused at once, DeadlineExceeded (waited too long), Unavailable (no decode worker for a while).
        """
        place = Place(self, ticket)
        await self._wait_turn(ticket)
        began = self._clock.monotonic()
        try:
            yield place
        except LegBroken as broken:
            if broken.setback is Setback.REFUSED:
                self._note_refused(ticket, broken)
            raise
        finally:
            now = self._clock.monotonic()
            held = (now - began) * ticket.num_pages
            usage = Usage(generated_tokens=place.generated_tokens, page_seconds=held)
            self.line.leave(ticket.request, usage, now)
            self.pump()

    def pump(self) -> None:
        """Admits whoever may start now, in order."""
        while self.line.num_waiting:
            ticket = self.line.take(self._clock.monotonic(), self._fleet)
            if ticket is None:
                return
            self._turns[ticket.request].set()

    def note_landed(self, request: RequestId) -> None:
        self.line.land(request, self._clock.monotonic())
        self.pump()

    def _note_refused(self, ticket: Ticket, broken: LegBroken) -> None:
        """One worker being full says nothing while another may have room. Otherwise the place that may be free is
        tried later, even if nothing is heard until then."""
        if broken.worker is None or self._fleet.obstacle(ticket.num_pages, 0) is not None:
            probe_s = self.line.refuse(ticket.request, self._clock.monotonic())
            asyncio.get_running_loop().call_later(probe_s, self.pump)

    async def _wait_turn(self, ticket: Ticket) -> None:
        chance = self._entropy.bits(CHANCE_BITS) / (1 << CHANCE_BITS)
        self.line.offer(ticket, self._clock.monotonic(), chance=chance)
        turn = self._turns[ticket.request] = asyncio.Event()
        try:
            self.pump()
            while not turn.is_set():
                await self._wait_a_while(ticket, turn)
        except BaseException:  # cancelled, too late, or nobody there: it must not stay in line
            self._give_up(ticket, has_turn=turn.is_set())
            raise
        finally:
            del self._turns[ticket.request]

    def _give_up(self, ticket: Ticket, *, has_turn: bool) -> None:
        now = self._clock.monotonic()
        if has_turn:
            self.line.leave(ticket.request, Usage(), now)
        else:
            self.line.withdraw(ticket.request, now)
        self.pump()

    async def _wait_a_while(self, ticket: Ticket, turn: asyncio.Event) -> None:
        """Until its turn, or until it may have to give up. Raises DeadlineExceeded, Unavailable."""
        now = self._clock.monotonic()
        wait_s = ticket.deadline - now
        if wait_s <= 0:
            raise DeadlineExceeded(message=f"no worker had room before its deadline, in {now - ticket.arrived:.3g} s")
        if not ticket.has_run:
            wait_s = min(wait_s, self._grace_left_s(ticket))
        await wait_set(turn, wait_s)

    def _grace_left_s(self, ticket: Ticket) -> float:
        limits = self.line.limits
        waited_s = self._clock.monotonic() - ticket.arrived
        left_s = max(limits.absence_grace_s - self._fleet.absent_s(), limits.hold_s - waited_s)
        if left_s <= 0:
            grace_s = max(limits.absence_grace_s, limits.hold_s)
            raise Unavailable(
                message=f"no decode worker for {grace_s:.0f} s", reason=Reason.NO_WORKERS, retry_after_s=2.0
            )
        return left_s
