"""A model of the hand-off: who may free a page that a peer may still write.

One router, one prefill worker, one decode worker with a few pages; each request needs one page and is tried at most
`max_attempts` times. Any of the three may crash. Data on the wire lands late, or never.

    request:  WAITING -reserve-> PROMISED -offer-> FILLING -notify-> READY -run-> RUNNING -finish-> DONE
              any -abort-> ABORTED          FILLING -lease ends-> PROMISED, next attempt
    page:     reader (a request or nobody), writer (an accepted offer that may still land), content

A page may travel in groups of layers, an offer each, in order. Then its content is known per group, with the attempt
that brought it, and decode takes a page once it is whole, told or not.

Four ways to free a page whose request is aborted while its offer is open:

    FREE_ON_ABORT  at once
    DEFER          when the sender tells that it is done or has given up
    LEASE          likewise, or when a lease ends
    DRAIN_LEASE    likewise, but first the pair's channel is closed for good, so that nothing of it can land any more

With a lease on offers comes one on reservations: decode gives up what no router claims.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple


class Policy(StrEnum):
    """When a page whose request is gone becomes free."""

    FREE_ON_ABORT = "free on abort"
    DEFER = "defer until the sender tells"
    LEASE = "lease without drain"
    DRAIN_LEASE = "drain and lease"


class Part(StrEnum):
    """Who may crash."""

    ROUTER = "router"
    PREFILL = "prefill"
    DECODE = "decode"


class Haste(StrEnum):
    """When decode takes a page for whole. All but the first are mistakes."""

    NONE = "every group of this attempt has landed"
    LAST_GROUP = "the last group has landed"
    ANY_ATTEMPT = "every group of some attempt has landed"


class Phase(IntEnum):
    """Where a request is."""

    WAITING = 0
    PROMISED = 1
    FILLING = 2
    READY = 3
    RUNNING = 4
    DONE = 5
    ABORTED = 6


class Request(NamedTuple):
    phase: Phase = Phase.WAITING
    attempt: int = 1
    page: int = -1
    offered: int = 0
    """Groups that this attempt has offered."""


class Piece(NamedTuple):
    """What a group of layers of a page was written by."""

    request: int
    attempt: int


class Page(NamedTuple):
    """Reader and writer are request numbers, -1 for none."""

    reader: int = -1
    writer: int = -1
    content: frozenset[tuple[int, Piece]] = frozenset()
    """By group of layers; what is nowhere here was never written."""


class Flight(NamedTuple):
    """Data on the wire: of which request and attempt, for which page and group, and whether its channel stands."""

    request: int
    page: int
    attempt: int = 1
    group: int = 0
    is_open: bool = True


class Handoff(NamedTuple):
    """The whole cluster. `sending`: requests that prefill has an accepted offer for and has not told the end of."""

    requests: tuple[Request, ...]
    pages: tuple[Page, ...]
    flights: frozenset[Flight] = frozenset()
    sending: frozenset[int] = frozenset()
    is_router_up: bool = True
    is_prefill_up: bool = True
    crashes_left: int = 0
    has_overwritten: bool = False
    """A flight has changed a page that another request holds: the state that must not exist."""


Step = tuple[str, Handoff]
FREE = Page()
OPEN = (Phase.PROMISED, Phase.FILLING, Phase.READY, Phase.RUNNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Successors of a state under one policy."""

    policy: Policy
    num_requests: int
    num_pages: int
    max_crashes: int = 0
    mortals: frozenset[Part] = frozenset(Part)
    max_attempts: int = 2
    num_groups: int = 1
    haste: Haste = Haste.NONE

    @property
    def has_lease(self) -> bool:
        return self.policy in (Policy.LEASE, Policy.DRAIN_LEASE)

    def start(self) -> Handoff:
        return Handoff(
            requests=(Request(),) * self.num_requests,
            pages=(FREE,) * self.num_pages,
            crashes_left=self.max_crashes,
        )

    def is_wrong(self, state: Handoff) -> bool:
        return state.has_overwritten or any(
            request.phase is Phase.RUNNING
            and not self._is_whole(state.pages[request.page], self._piece(number, request.attempt), Haste.NONE)
            for number, request in enumerate(state.requests)
        )

    def is_settled(self, state: Handoff) -> bool:
        """Every request has an end and every page is free."""
        return all(request.phase >= Phase.DONE for request in state.requests) and all(
            page.reader == page.writer == -1 for page in state.pages
        )

    def _piece(self, number: int, attempt: int) -> Piece:
        """Where a page travels in one piece, attempts cannot mix in it: fewer states."""
        return Piece(number, attempt if self.num_groups > 1 else 0)

    def _is_whole(self, page: Page, wanted: Piece, haste: Haste) -> bool:
        pieces = dict(page.content)
        match haste:
            case Haste.NONE:
                return all(pieces.get(group) == wanted for group in range(self.num_groups))
            case Haste.LAST_GROUP:
                return pieces.get(self.num_groups - 1) == wanted
            case Haste.ANY_ATTEMPT:
                written = [pieces.get(group) for group in range(self.num_groups)]
                return all(piece is not None and piece.request == wanted.request for piece in written)

    def successors(self, state: Handoff) -> Iterator[Step]:
        for number, request in enumerate(state.requests):
            yield from self._request_steps(state, number, request)
        for flight in state.flights:
            yield f"land {flight.request}", self._land(state, flight)
            if not state.is_prefill_up:
                yield f"lose {flight.request}", state._replace(flights=state.flights - {flight})
        if self.has_lease and any(page.writer >= 0 for page in state.pages):
            yield "lease ends", self._end_lease(state)
        yield from self._crashes(state)

    def _request_steps(self, state: Handoff, number: int, request: Request) -> Iterator[Step]:
        phase, page = request.phase, request.page
        if phase is Phase.WAITING and state.is_router_up and FREE in _held(state.pages):
            page = _held(state.pages).index(FREE)
            moved = _set_page(state, page, Page(reader=number))
            yield f"reserve {number}", _set_request(moved, number, request._replace(phase=Phase.PROMISED, page=page))
        may_begin = phase is Phase.PROMISED and state.pages[page].writer < 0
        may_go_on = phase is Phase.FILLING and number in state.sending and request.offered < self.num_groups
        if (may_begin or may_go_on) and state.is_prefill_up and state.is_router_up:
            yield f"offer {number}", self._offer(state, number)
        has_offered = phase is not Phase.FILLING or request.offered == self.num_groups
        is_quiet = not any(flight.request == number for flight in state.flights)
        if number in state.sending and has_offered and is_quiet:
            yield f"notify {number}", self._notify(state, number)
        may_take = phase is Phase.FILLING and self.num_groups > 1
        if may_take and self._is_whole(state.pages[page], self._piece(number, request.attempt), self.haste):
            yield f"take {number}", _set_request(state, number, request._replace(phase=Phase.READY))
        if phase is Phase.READY:
            yield f"run {number}", _set_request(state, number, request._replace(phase=Phase.RUNNING))
        if phase is Phase.RUNNING:
            yield f"finish {number}", self._leave(state, number, Phase.DONE)
        if phase < Phase.DONE and state.is_router_up:
            yield f"abort {number}", self._leave(state, number, Phase.ABORTED)
        if phase < Phase.DONE and not state.is_router_up and (self.has_lease or phase not in OPEN):
            yield f"reservation {number} ends", self._leave(state, number, Phase.ABORTED)

    def _offer(self, state: Handoff, number: int) -> Handoff:
        """The next group of layers is on its way; from the first one on the page has a writer."""
        request = state.requests[number]
        attempt = self._piece(number, request.attempt).attempt
        flight = Flight(number, request.page, attempt=attempt, group=request.offered)
        moved = _set_page(state, request.page, state.pages[request.page]._replace(writer=number))
        moved = moved._replace(flights=state.flights | {flight}, sending=state.sending | {number})
        return _set_request(moved, number, request._replace(phase=Phase.FILLING, offered=request.offered + 1))

    def _land(self, state: Handoff, flight: Flight) -> Handoff:
        """Data arrives. Of a closed channel nothing arrives; under the other policies nothing ever closes."""
        state = state._replace(flights=state.flights - {flight})
        page = state.pages[flight.page]
        if not flight.is_open:
            return state
        if page.reader not in (-1, flight.request):
            return state._replace(has_overwritten=True)
        pieces = {**dict(page.content), flight.group: self._piece(flight.request, flight.attempt)}
        return _set_page(state, flight.page, page._replace(content=frozenset(pieces.items())))

    def _notify(self, state: Handoff, number: int) -> Handoff:
        """The sender tells the end of its offer: the writer is gone, and who waits for the page may go on."""
        state = state._replace(sending=state.sending - {number})
        for page, held in enumerate(state.pages):
            if held.writer == number:
                state = _set_page(state, page, held._replace(writer=-1))
        request = state.requests[number]
        wanted = self._piece(number, request.attempt)
        if request.phase is Phase.FILLING and self._is_whole(state.pages[request.page], wanted, self.haste):
            state = _set_request(state, number, request._replace(phase=Phase.READY))
        return state

    def _leave(self, state: Handoff, number: int, phase: Phase) -> Handoff:
        """The request ends and stops holding its page. Only FREE_ON_ABORT forgets the writer as well."""
        request = state.requests[number]
        state = _set_request(state, number, Request(phase=phase, attempt=request.attempt))
        if request.phase not in OPEN:
            return state
        writer = -1 if self.policy is Policy.FREE_ON_ABORT else state.pages[request.page].writer
        return _set_page(state, request.page, Page(writer=writer))

    def _end_lease(self, state: Handoff) -> Handoff:
        """The receiver counts its writers as gone, after it closed their channel. Requests try again, or give up."""
        if self.policy is Policy.DRAIN_LEASE:
            state = state._replace(flights=frozenset(flight._replace(is_open=False) for flight in state.flights))
        state = state._replace(pages=tuple(page._replace(writer=-1) for page in state.pages), sending=frozenset())
        for number, request in enumerate(state.requests):
            if request.phase is not Phase.FILLING:
                continue
            if request.attempt < self.max_attempts:
                again = request._replace(phase=Phase.PROMISED, attempt=request.attempt + 1, offered=0)
                state = _set_request(state, number, again)
            else:
                state = self._leave(state, number, Phase.ABORTED)
        return state

    def _crashes(self, state: Handoff) -> Iterator[Step]:
        if not state.is_prefill_up:
            yield "prefill restarts", state._replace(is_prefill_up=True)
        if not state.crashes_left:
            return
        fewer = state._replace(crashes_left=state.crashes_left - 1)
        if state.is_router_up and Part.ROUTER in self.mortals:
            yield "router crashes", fewer._replace(is_router_up=False)
        if state.is_prefill_up and Part.PREFILL in self.mortals:
            yield "prefill crashes", fewer._replace(is_prefill_up=False, sending=frozenset())
        if Part.DECODE in self.mortals:
            yield "decode crashes", self._restart_decode(fewer)

    def _restart_decode(self, state: Handoff) -> Handoff:
        """A new process: pages are empty, nothing on the wire reaches it. The router places its requests anew."""
        state = state._replace(pages=(FREE,) * self.num_pages, flights=frozenset(), sending=frozenset())
        for number, request in enumerate(state.requests):
            if request.phase in OPEN:
                may_retry = request.attempt < self.max_attempts
                phase = Phase.WAITING if may_retry else Phase.ABORTED
                state = _set_request(state, number, Request(phase=phase, attempt=request.attempt + may_retry))
        return state


def _held(pages: tuple[Page, ...]) -> tuple[Page, ...]:
    """Pages without their content: what the pool knows."""
    return tuple(page._replace(content=frozenset()) for page in pages)


def _set_page(state: Handoff, number: int, page: Page) -> Handoff:
    return state._replace(pages=(*state.pages[:number], page, *state.pages[number + 1 :]))


def _set_request(state: Handoff, number: int, request: Request) -> Handoff:
    return state._replace(requests=(*state.requests[:number], request, *state.requests[number + 1 :]))
