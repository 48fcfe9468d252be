"""Cached pages on their way here from another worker, before the prompt that begins with them is read.

    promised --runs land--> all here, told so --> CACHED: the prompt begins, and finds them
        '---- late, broken, given up -----------> the leading pages that did land are cached, the others are free

A prompt waits for its pages no longer than its router said. Whatever becomes of the fetch, it is read then, from the
first token that the cache does not have: a page is only registered when every byte of it was verified.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from common.core.clock import Clock
from common.core.ids import PageRef, PrefixHash, RequestId, ReservationId
from common.core.request import Work
from common.engine.kindred import Kin, is_mostly_coming
from common.kv.cache import PageCache
from common.kv.hashing import PrefixChain
from common.kv.span import Span
from common.kv.storage import PageStorage
from common.transfer.messages import PageRun

LAND_S = 1e-3
"""Chosen: what copying may add to a step. Ten megabytes on any machine; running answers hardly notice."""

PIECE_BYTES = 256 * 1024
"""Chosen: between two looks at the clock."""

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
    """Room for the first `total_pages` of a context, of which `held_pages` are here."""

    reservation: ReservationId
    total_pages: int
    held_pages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixRun:
    """A run's buffer is not read any more: its bytes are in their pages, or were not wanted."""

    reservation: ReservationId
    first_page: int
    is_landed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixClosed:
    """No page of this prefix is waited for any more."""

    reservation: ReservationId


PrefixEvent = PrefixRun | PrefixClosed


@dataclass(slots=True)
class _Run:
    run: PageRun
    data: Span
    done: int = 0


@dataclass(slots=True)
class _Coming:
    work: Work
    promise: PrefixPromise
    hashes: Sequence[PrefixHash]
    pages: tuple[PageRef, ...]
    until: float
    """When they are given up here, should nobody say so: a caller may hang up before anybody watches over its fetch."""
    landed: set[int] = field(default_factory=set)
    runs: deque[_Run] = field(default_factory=deque)
    is_told: bool = False

    @property
    def num_here(self) -> int:
        """Leading pages with content."""
        count = self.promise.held_pages
        while count in self.landed:
            count += 1
        return count


class PrefixDesk:
    """Writer: the core that owns it, on the step loop. `tell`: for the event loop."""

    def __init__(
        self,
        *,
        cache: PageCache,
        storage: PageStorage,
        tell: Callable[[PrefixEvent], None],
        counters: FetchCounters,
        clock: Clock,
    ) -> None:
        self._cache = cache
        self._storage = storage
        self._tell = tell
        self._counters = counters
        self._clock = clock
        self._coming: dict[ReservationId, _Coming] = {}
        self._piece_pages = max(1, PIECE_BYTES // storage.layout.page_bytes)

    def __len__(self) -> int:
        return len(self._coming)

    def awaits(self, request: RequestId) -> bool:
        """Whether pages of its prompt are still on their way: it begins when they are here, or given up."""
        return any(coming.work.request == request for coming in self._coming.values())

    def brings(self, kin: Kin) -> bool:
        """Whether most of what this prompt would compute is on its way here for another one: then it finds that."""
        if not self._coming or kin.wants_scores:
            return False
        names = kin.page_names[: (kin.num_tokens - 1) // self._storage.layout.page_size]
        coming = [each.hashes for each in self._coming.values()]
        return is_mostly_coming(names, self._cache.look_for(names), coming)

    def promise(self, work: Work, num_pages: int) -> PrefixPromise | None:
        """Room for what is missing of the first pages of the work's context. None where they are all here, where they
        would not fit, or where the context has no so many full pages: then the prompt is read as it is."""
        layout, context = self._storage.layout, work.context
        reservation = ReservationId(f"{work.request}^{work.attempt}")
        if reservation in self._coming or num_pages * layout.page_size > len(context) - 1:
            return None
        chain = PrefixChain(scope=work.cache_scope, layout=layout)
        chain.extend(context[: num_pages * layout.page_size])
        held = self._cache.match(chain.hashes, context)
        missing = self._cache.promise(num_pages - len(held)) if len(held) < num_pages else None
        if missing is None:
            self._cache.release(held)
            return None
        promise = PrefixPromise(reservation=reservation, total_pages=num_pages, held_pages=len(held))
        until = min(self._clock.monotonic() + MAX_PATIENCE_S, work.deadline)
        coming = _Coming(work=work, promise=promise, hashes=chain.hashes, pages=(*held, *missing), until=until)
        self._coming[reservation] = coming
        return promise

    def land(self, reservation: ReservationId, run: PageRun, data: Span) -> None:
        """Verified bytes have arrived. They are copied a little per turn."""
        coming = self._coming.get(reservation)
        if coming is None:
            self._tell(PrefixRun(reservation=reservation, first_page=run.first_page, is_landed=False))
        else:
            coming.runs.append(_Run(run, data))

    def complete(self, reservation: ReservationId) -> None:
        """Nothing more will be sent."""
        if (coming := self._coming.get(reservation)) is not None:
            coming.is_told = True

    def close(self, reservation: ReservationId) -> None:
        """They are not waited for any more. Idempotent."""
        if (coming := self._coming.get(reservation)) is not None:
            self._close(coming)

    def give_up(self, is_meant: Callable[[Work], bool]) -> None:
        """Whose prompt is over here, needs no pages."""
        for coming in tuple(self._coming.values()):
            if is_meant(coming.work):
                self._close(coming)

    def advance(self) -> bool:
        """Copy for a moment; close what is whole, or late. False when nothing waited."""
        if not self._coming:
            return False
        moved, now = False, self._clock.monotonic()
        until = now + LAND_S
        for coming in tuple(self._coming.values()):
            if now >= coming.until:
                self._close(coming)
                moved = True
                continue
            while coming.runs and not (moved and self._clock.monotonic() >= until):
                self._land_piece(coming)
                moved = True
            if coming.is_told and coming.num_here == len(coming.pages):
                self._close(coming)
                moved = True
        return moved

    def _land_piece(self, coming: _Coming) -> None:
        run, page_bytes = coming.runs[0], self._storage.layout.page_bytes
        first = run.run.first_page + run.done
        refs = coming.pages[first : min(first + self._piece_pages, run.run.end)]
        for ref in refs:
            self._cache.check(ref)
        start = run.done * page_bytes
        self._storage.scatter([ref.page for ref in refs], run.data[start : start + len(refs) * page_bytes])
        run.done += len(refs)
        if run.done == run.run.num_pages:
            coming.runs.popleft()
            coming.landed.update(range(run.run.first_page, run.run.end))
            self._tell_run(coming, run, is_landed=True)

    def _close(self, coming: _Coming) -> None:
        """Every page goes back, those with content under their names."""
        del self._coming[coming.promise.reservation]
        for run in coming.runs:
            self._tell_run(coming, run, is_landed=False)
        held, here = coming.promise.held_pages, coming.num_here
        self._cache.fulfil(coming.pages[held:here])
        size, context = self._storage.layout.page_size, coming.work.context
        for index in range(held, here):
            parent = coming.hashes[index - 1] if index else None
            tokens = context[index * size : (index + 1) * size]
            self._cache.register(coming.pages[index], coming.hashes[index], tokens, parent=parent)
        self._cache.release(coming.pages)
        self._count(fetched=here - held, missing=len(coming.pages) - here)
        self._tell(PrefixClosed(reservation=coming.promise.reservation))

    def _count(self, *, fetched: int, missing: int) -> None:
        self._counters.fetched_pages += fetched
        if not missing:
            self._counters.fetches_whole += 1
        elif fetched:
            self._counters.fetches_part += 1
        else:
            self._counters.fetches_void += 1

    def _tell_run(self, coming: _Coming, run: _Run, *, is_landed: bool) -> None:
        reservation = coming.promise.reservation
        self._tell(PrefixRun(reservation=reservation, first_page=run.run.first_page, is_landed=is_landed))
