"""The page pool: who holds which page. Accounting only: it never sees a byte of KV.

The journey of a page:

    FREE --promise--> PROMISED --begin_write--> FILLING --end_write--> PROMISED --fulfil--> ACTIVE
      '--allocate---------------------------------------------------------------------------^
    ACTIVE --keep, then last release--> CACHED --retain--> ACTIVE
    CACHED --unkeep--> FREE        ACTIVE, PROMISED --last release--> FREE
    FILLING --last release--> FILLING (no reader: waits for its writer) --last end_write--> FREE

A page has two counts: readers (sequences, reservations, exports) and writers (transfers that may still land in it). It
returns to the free list only when both are zero and nothing keeps it, and then its generation moves on, so that a
reference to its former life is refused for ever.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from common.core.errors import Fenced, Reason
from common.core.ids import Generation, PageId, PageRef
from common.core.worker import PageCounts


class PageState(StrEnum):
    """Where a page is on its journey."""

    FREE = "free"
    PROMISED = "promised"
    FILLING = "filling"
    ACTIVE = "active"
    CACHED = "cached"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolCounters:
    """Events since the start, in pages, except `refusals` (calls). They only grow."""

    allocated: int = 0
    promised: int = 0
    freed: int = 0
    deferred: int = 0
    """Pages whose last reader left while a writer could still land: freeing waited."""
    refusals: int = 0
    """Calls of allocate or promise that found too few free pages."""
    fenced: int = 0
    """References of a former life that `check` refused."""


class PagePool:
    """Two counts and a generation per page. Writer: the step loop.

    A call with an unknown, stale or doubled reference, or one that would make a count negative, is a bug and fails an
    assertion before anything changed. Only `check` raises for the world: Fenced.
    """

    def __init__(self, num_pages: int) -> None:
        assert num_pages > 0, f"a pool of {num_pages} pages"
        self._readers = [0] * num_pages
        self._writers = [0] * num_pages
        self._generations = [1] * num_pages
        self._is_promised = bytearray(num_pages)
        self._is_kept = bytearray(num_pages)
        self._free = list(range(num_pages - 1, -1, -1))  # a stack: page 0 leaves first, the last freed is reused first
        self._num_fresh = num_pages
        self._num_promised = 0
        self._num_cached = 0
        self._events: Counter[str] = Counter()

    @property
    def num_pages(self) -> int:
        return len(self._readers)

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_used_ever(self) -> int:
        """Pages from this one on were never given out: the stack reuses what was freed first."""
        return self.num_pages - self._num_fresh

    # Taking and giving back

    def allocate(self, count: int) -> tuple[PageRef, ...] | None:
        """Take free pages to compute into, one reader each. None, and nothing changed, when too few are free."""
        return self._take(count, event="allocated", is_promised=False)

    def promise(self, count: int) -> tuple[PageRef, ...] | None:
        """Take free pages that somebody else will fill, one reader each. None when too few are free."""
        return self._take(count, event="promised", is_promised=True)

    def _take(self, count: int, *, event: str, is_promised: bool) -> tuple[PageRef, ...] | None:
        assert count >= 0, f"{event}: {count} pages"
        if count > len(self._free):
            self._events["refusals"] += 1
            return None
        pages = [self._free.pop() for _ in range(count)]
        for page in pages:
            self._readers[page] = 1
            self._is_promised[page] = is_promised
        self._num_fresh = min(self._num_fresh, len(self._free))
        self._num_promised += count * is_promised
        self._events[event] += count
        return tuple(self._ref(page) for page in pages)

    def fulfil(self, refs: Collection[PageRef]) -> None:
        """The promise is kept: every byte is in place and nobody writes any more."""
        for page in self._held(refs):
            assert self._is_promised[page], f"page {page} fulfilled, but nobody promised it"
            assert not self._writers[page], f"page {page} fulfilled under {self._writers[page]} writers"
        for ref in refs:
            self._is_promised[ref.page] = False
        self._num_promised -= len(refs)

    def retain(self, refs: Collection[PageRef]) -> None:
        """One more reader each, of pages that have content: referenced or cached."""
        pages = self._current(refs)
        for page in pages:
            assert self._readers[page] or self._is_kept[page], f"page {page} retained, but nobody holds it"
            assert not self._is_promised[page], f"page {page} retained before it was filled"
        for page in pages:
            self._num_cached -= self._readers[page] == 0
            self._readers[page] += 1

    def release(self, refs: Collection[PageRef]) -> tuple[PageId, ...]:
        """One reader less each. Returns the pages that nobody holds now: freed, or cached where they are kept."""
        pages = self._held(refs)
        left: list[PageId] = []
        for page in pages:
            self._readers[page] -= 1
            if self._readers[page]:
                continue
            if self._writers[page]:
                self._events["deferred"] += 1
                continue
            self._settle(page)
            left.append(PageId(page))
        return tuple(left)

    # Transfers

    def begin_write(self, refs: Collection[PageRef]) -> None:
        """A transfer may land in these promised pages from now on, whatever happens to their request."""
        pages = self._held(refs)
        for page in pages:
            assert self._is_promised[page], f"page {page} has content already: a transfer may not land in it"
        for page in pages:
            self._writers[page] += 1

    def end_write(self, refs: Collection[PageRef]) -> tuple[PageId, ...]:
        """The transfer cannot land any more: landed, failed or given up. Returns the pages freed by that."""
        pages = self._current(refs)
        for page in pages:
            assert self._writers[page] > 0, f"page {page} has no writer to end"
        left: list[PageId] = []
        for page in pages:
            self._writers[page] -= 1
            if not self._writers[page] and not self._readers[page]:
                self._settle(page)
                left.append(PageId(page))
        return tuple(left)

    # For the prefix cache

    def keep(self, page: PageId) -> None:
        """When its last reader leaves, the page becomes CACHED instead of FREE."""
        assert self._readers[page], f"page {page} kept, but nobody holds it"
        assert not self._is_promised[page], f"page {page} kept before it was filled"
        assert not self._is_kept[page], f"page {page} kept twice"
        self._is_kept[page] = True

    def unkeep(self, page: PageId) -> None:
        """Withdraw `keep`: a cached page is freed, a referenced one will be."""
        assert self._is_kept[page], f"page {page} is not kept"
        self._is_kept[page] = False
        if not self._readers[page]:
            self._num_cached -= 1
            self._settle(page)

    # Asking

    def readers(self, ref: PageRef) -> int:
        """How many sequences, reservations and exports hold the page."""
        assert self._generations[ref.page] == ref.generation, f"{ref} is not current"
        return self._readers[ref.page]

    def writers(self, ref: PageRef) -> int:
        """How many transfers may still land in the page."""
        (page,) = self._current([ref])
        return self._writers[page]

    def state(self, page: PageId) -> PageState:
        """Where the page is on its journey: derived from counts and marks, never stored."""
        if self._is_promised[page]:
            return PageState.FILLING if self._writers[page] else PageState.PROMISED
        if self._readers[page]:
            return PageState.ACTIVE
        return PageState.CACHED if self._is_kept[page] else PageState.FREE

    def is_current(self, ref: PageRef) -> bool:
        """Whether the page still lives the life that `ref` names."""
        return 0 <= ref.page < self.num_pages and self._generations[ref.page] == ref.generation

    def check(self, ref: PageRef) -> None:
        """Raise Fenced when `ref` is of a former life. For bytes that arrive; whoever lands them drops them."""
        if self.is_current(ref):
            return
        self._events["fenced"] += 1
        now = self._generations[ref.page] if 0 <= ref.page < self.num_pages else None
        raise Fenced(
            message=f"page {ref.page} is in generation {now}, the caller holds {ref.generation}; its request is over",
            reason=Reason.STALE_GENERATION,
            facts={"page": str(ref.page), "generation": str(now), "claimed": str(ref.generation)},
        )

    def counts(self) -> PageCounts:
        """Pages by state, promised including those being filled. Constant time."""
        held = self.num_pages - len(self._free) - self._num_promised - self._num_cached
        assert held >= 0, f"{held} pages referenced: {len(self._free)} free, {self._num_promised} promised"
        return PageCounts(
            total=self.num_pages,
            free=len(self._free),
            promised=self._num_promised,
            referenced=held,
            cached=self._num_cached,
        )

    def counters(self) -> PoolCounters:
        """A snapshot of the events so far."""
        return PoolCounters(**self._events)

    def audit(self) -> None:
        """Recount everything page by page, in time proportional to the pool. For tests and drains."""
        states = Counter(self.state(PageId(page)) for page in range(self.num_pages))
        counts = self.counts()
        recount = PageCounts(
            total=self.num_pages,
            free=states[PageState.FREE],
            promised=states[PageState.PROMISED] + states[PageState.FILLING],
            referenced=states[PageState.ACTIVE],
            cached=states[PageState.CACHED],
        )
        assert counts == recount, f"the pool keeps {counts}, page by page it is {recount}"
        assert len(set(self._free)) == len(self._free), "a page is on the free list twice"
        for page in self._free:
            assert self.state(PageId(page)) is PageState.FREE, f"page {page} is {self.state(PageId(page))} and free"
        assert min(*self._readers, *self._writers, 0) == 0, "a count is negative"

    # Inside

    def _ref(self, page: int) -> PageRef:
        return PageRef(PageId(page), Generation(self._generations[page]))

    def _current(self, refs: Collection[PageRef]) -> Sequence[int]:
        """The pages of current, distinct references."""
        pages = [ref.page for ref in refs]
        assert len(set(pages)) == len(pages), f"a page is named twice in one call: {pages}"
        for ref in refs:
            assert self.is_current(ref), f"{ref} is not current"
        return pages

    def _held(self, refs: Collection[PageRef]) -> Sequence[int]:
        """The pages of current, distinct references that have a reader."""
        pages = self._current(refs)
        for page in pages:
            assert self._readers[page] > 0, f"page {page} has no reader"
        return pages

    def _settle(self, page: int) -> None:
        """Nobody holds the page any more: cached where it is kept, free otherwise."""
        assert not self._readers[page] + self._writers[page], f"page {page} settles while it is held"
        if self._is_kept[page]:
            self._num_cached += 1
            return
        self._num_promised -= self._is_promised[page]
        self._is_promised[page] = False
        self._generations[page] += 1
        self._free.append(page)
        self._events["freed"] += 1
