"""Cached pages on their way here from another worker, before the prompt that begins with them is read.

    COMING --pieces land (landing.py)--> COMING --the last is here, and told so--> CLOSED
       '---- late, broken, given up: the leading pages that did land count -------> CLOSED
    CLOSED under a copy --left--> the pages that it wrote are free as well

Closed is: the leading pages that landed are cached, the others are free, and the prompt begins in the same turn and
finds what there is. A page that did not land, while somebody still copies, waits for him: it is nobody's, and has its
writer in the pool. Pages that landed have none any more, so nobody waits for a copy to begin with what came before it.

A prompt waits for its pages no longer than its router said. Whatever becomes of the fetch, it is read then, from the
first token that the cache does not have: a page is only registered when every byte of it was verified.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from common.core.clock import Clock
from common.core.ids import PageRef, PrefixHash, RequestId, ReservationId
from common.core.request import Work
from common.engine.kindred import Kin, is_mostly_coming
from common.kv.cache import PageCache
from common.kv.hashing import PrefixChain
from common.kv.layout import PageLayout
from common.worker.permit import PagesLanded, Permit

MAX_PATIENCE_S = 10.0
"""Chosen: whatever a router says, no prompt waits longer before it is read."""


class FetchCounters(Protocol):
    """What a core counts of fetched prefixes: pages, and how each fetch ended."""

    fetched_pages: int
    fetches_whole: int
    fetches_part: int
    fetches_void: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixPromise:
    """Room for the first `total_pages` of a context, of which `held_pages` are here; leave to write the others."""

    reservation: ReservationId
    total_pages: int
    held_pages: int
    permit: Permit


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixClosed:
    """No page of this prefix is waited for any more."""

    reservation: ReservationId


@dataclass(slots=True)
class _Coming:
    work: Work
    promise: PrefixPromise
    hashes: Sequence[PrefixHash]
    pages: tuple[PageRef, ...]
    until: float
    """When they are given up here, should nobody say so: a caller may hang up before anybody watches over its fetch."""
    landed: set[int] = field(default_factory=set)

    @property
    def num_here(self) -> int:
        """Leading pages with content."""
        here = self.promise.held_pages
        while here in self.landed:
            here += 1
        return here

    def missing(self) -> list[PageRef]:
        """Promised pages without content: who lands has leave to write them still."""
        held = self.promise.held_pages
        return [page for at, page in enumerate(self.pages[held:], start=held) if at not in self.landed]


class PrefixDesk:
    """Writer: the core that owns it, on the step loop. A LandingDesk. `tell`: for the event loop."""

    def __init__(
        self,
        *,
        cache: PageCache,
        layout: PageLayout,
        tell: Callable[[PrefixClosed], None],
        counters: FetchCounters,
        clock: Clock,
    ) -> None:
        self._cache = cache
        self._layout = layout
        self._tell = tell
        self._counters = counters
        self._clock = clock
        self._coming: dict[ReservationId, _Coming] = {}
        self._ending: dict[ReservationId, list[PageRef]] = {}
        """Pages of what was closed under a copy, which has leave to write them until it ends."""
        self._numbers = count(1)

    def __len__(self) -> int:
        return len(self._coming)

    def awaits(self, request: RequestId) -> bool:
        """Whether pages of its prompt are still on their way: it begins when they are here, or given up."""
        return any(coming.work.request == request for coming in self._coming.values())

    def brings(self, kin: Kin) -> bool:
        """Whether most of what this prompt would compute is on its way here for another one: then it finds that."""
        if not self._coming or kin.wants_scores:
            return False
        names = kin.page_names[: (kin.num_tokens - 1) // self._layout.page_size]
        coming = [each.hashes for each in self._coming.values()]
        return is_mostly_coming(names, self._cache.look_for(names), coming)

    def promise(self, work: Work, num_pages: int) -> PrefixPromise | None:
        """Room for what is missing of the first pages of the work's context. None where they are all here, where they
        would not fit, or where the context has no so many full pages: then the prompt is read as it is."""
        layout, context = self._layout, work.context
        if self._is_coming(work) or num_pages * layout.page_size > len(context) - 1:
            return None
        chain = PrefixChain(scope=work.cache_scope, layout=layout)
        chain.extend(context[: num_pages * layout.page_size])
        held = self._cache.match(chain.hashes, context)
        missing = self._cache.promise(num_pages - len(held)) if len(held) < num_pages else None
        if missing is None:
            self._cache.release(held)
            return None
        self._cache.begin_write(missing)
        # Once per promise: a call that is repeated makes another one, and hears nothing of this one's copies.
        reservation = ReservationId(f"{work.request}^{work.attempt}^{next(self._numbers)}")
        permit = Permit(reservation=reservation, attempt=work.attempt, first_page=len(held), pages=missing)
        promise = PrefixPromise(reservation=reservation, total_pages=num_pages, held_pages=len(held), permit=permit)
        until = min(self._clock.monotonic() + MAX_PATIENCE_S, work.deadline)
        coming = _Coming(work=work, promise=promise, hashes=chain.hashes, pages=(*held, *missing), until=until)
        self._coming[reservation] = coming
        return promise

    def _is_coming(self, work: Work) -> bool:
        asked = (work.request, work.attempt)
        return any((each.work.request, each.work.attempt) == asked for each in self._coming.values())

    def landed(self, landed: PagesLanded) -> None:
        """Verified bytes are in their pages, and nobody writes there any more."""
        if (coming := self._coming.get(landed.reservation)) is not None:
            places = range(landed.pages.first_page, landed.pages.end)
            self._cache.end_write([coming.pages[at] for at in places])
            coming.landed.update(places)

    def left(self, permit: Permit) -> None:
        """The copy has ended under which this was closed: what it wrote may go now."""
        self._cache.end_write(self._ending.pop(permit.reservation))

    def close(self, reservation: ReservationId) -> None:
        """All of them are here, or they are not waited for any more. Idempotent."""
        if (coming := self._coming.get(reservation)) is not None:
            self._close(coming)

    def give_up(self, is_meant: Callable[[Work], bool]) -> None:
        """Whose prompt is over here, needs no pages."""
        for coming in tuple(self._coming.values()):
            if is_meant(coming.work):
                self._close(coming)

    def expire(self, now: float) -> None:
        """Close what is late."""
        for coming in tuple(self._coming.values()):
            if now >= coming.until:
                self._close(coming)

    def _close(self, coming: _Coming) -> None:
        """Every page goes back, those with content under their names."""
        del self._coming[coming.promise.reservation]
        self._end_writing(coming)
        held, here = coming.promise.held_pages, coming.num_here
        self._cache.fulfil(coming.pages[held:here])
        size, context = self._layout.page_size, coming.work.context
        for index in range(held, here):
            parent = coming.hashes[index - 1] if index else None
            tokens = context[index * size : (index + 1) * size]
            self._cache.register(coming.pages[index], coming.hashes[index], tokens, parent=parent)
        self._cache.release(coming.pages)
        self._count(fetched=here - held, missing=len(coming.pages) - here)
        self._tell(PrefixClosed(reservation=coming.promise.reservation))

    def _end_writing(self, coming: _Coming) -> None:
        """Nothing lands any more. A copy that is under way ends first: `left`."""
        missing = coming.missing()
        if coming.promise.permit.revoke():
            self._cache.end_write(missing)
        else:
            self._ending[coming.promise.reservation] = missing

    def _count(self, *, fetched: int, missing: int) -> None:
        self._counters.fetched_pages += fetched
        if not missing:
            self._counters.fetches_whole += 1
        elif fetched:
            self._counters.fetches_part += 1
        else:
            self._counters.fetches_void += 1
