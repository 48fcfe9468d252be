"""The page cache: the pool and the prefix index as one, the facade that the batch and the cores use.

A page whose content is known by hash stays after its last reader left, until somebody needs the room. Giving it up has
one order: forget it, note the withdrawal, only then free it. So the directory may lag behind, never ahead.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from common.core.ids import PageId, PageRef, PrefixHash, TokenId
from common.core.worker import PageCounts
from common.kv.hashing import pack_tokens
from common.kv.ownership import OwnershipChanges, OwnershipLog
from common.kv.pool import PagePool
from common.kv.prefix import PrefixEntry, PrefixIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheCounters:
    """Events since the start, in pages, except `refusals` (calls). They only grow."""

    hits: int = 0
    misses: int = 0
    """Full pages that a match asked for and did not get."""
    evictions: int = 0
    collisions: int = 0
    """Hits whose token ids differed: treated as misses."""
    duplicates: int = 0
    """Registered while another page already holds the same prefix: stays private and is freed with its reader."""
    refusals: int = 0
    """Calls of allocate or promise that not even eviction could serve."""


class PageCache:
    """Allocation with eviction, prefix matches, ownership changes. Writer: the step loop.

    Whoever uses a cache gives pages back through it, never through the pool: the cache keeps the order of eviction.
    """

    def __init__(self, pool: PagePool, index: PrefixIndex, *, page_size: int) -> None:
        self._pool = pool
        self._index = index
        self._page_size = page_size
        self._log = OwnershipLog()
        self._hits = self._misses = self._evictions = self._collisions = self._duplicates = self._refusals = 0

    # Taking and giving back

    def allocate(self, count: int) -> tuple[PageRef, ...] | None:
        """Pages to compute into, one reader each. Evicts if it must; None, and nothing changed, when that cannot do."""
        return self._pool.allocate(count) if self._make_room(count) else None

    def promise(self, count: int) -> tuple[PageRef, ...] | None:
        """Pages that a transfer will fill, one reader each. Evicts if it must; None when that cannot do."""
        return self._pool.promise(count) if self._make_room(count) else None

    def available(self) -> int:
        """Pages that `allocate` could give: free, or cached and read by nobody."""
        return self._pool.num_free + self._index.num_idle

    def retain(self, refs: Sequence[PageRef]) -> None:
        """One more reader each."""
        self._pool.retain(refs)
        for ref in refs:
            self._index.mark_busy(ref.page)

    def release(self, refs: Sequence[PageRef]) -> tuple[PageId, ...]:
        """One reader less each. Returns the pages nobody reads now: cached if registered, else freed.

        Name a context's pages in order: its last page is evicted first, because a prefix without its beginning is lost.
        """
        left = self._pool.release(refs)
        for page in reversed(left):
            if self._index.find_page(page) is not None:
                self._index.mark_idle(page)
        return left

    def _make_room(self, count: int) -> bool:
        if count > self.available():
            self._refusals += 1
            return False
        while self._pool.num_free < count:
            page = self._index.least_recent()
            assert page is not None, f"{self.available()} pages available, but none is idle"
            self._give_up(page)
            self._evictions += 1
        return True

    def _give_up(self, page: PageId) -> None:
        self._log.withdraw(self._index.remove(page).prefix)
        self._pool.unkeep(page)

    # Prefixes

    def match(self, hashes: Sequence[PrefixHash], tokens: Sequence[TokenId]) -> tuple[PageRef, ...]:
        """The longest run of pages, from the first, that holds `tokens`. Retained for the caller, who releases them.

        Only full pages of `tokens` are looked for. A caller that must compute at least one token leaves it out:
        `match(chain.hashes, tokens[:-1])`. Token ids are compared: a hash alone never lends a page.
        """
        num_asked = min(len(hashes), len(tokens) // self._page_size)
        found: list[PageRef] = []
        for start, prefix in zip(range(0, num_asked * self._page_size, self._page_size), hashes, strict=False):
            entry = self._index.find(prefix)
            if entry is None:
                break
            if pack_tokens(tokens[start : start + self._page_size]) != entry.tokens:
                self._collisions += 1
                break
            found.append(entry.ref)
        self.retain(found)
        self._hits += len(found)
        self._misses += num_asked - len(found)
        return tuple(found)

    def look_for(self, hashes: Sequence[Hashable]) -> int:
        """How many leading pages somebody who asked now would find. For estimates: nothing is lent, and no tokens are
        compared."""
        return next((at for at, prefix in enumerate(hashes) if prefix not in self._index), len(hashes))

    def register(
        self, ref: PageRef, prefix: PrefixHash, tokens: Sequence[TokenId], *, parent: PrefixHash | None = None
    ) -> bool:
        """A page is full and its hash known: others may find it from now on. Call while it is still referenced.

        `parent`, the hash of the page before it, lets the change travel in one run with its neighbours.
        False when another page holds this prefix already; then nothing changes.
        """
        if prefix in self._index:
            self._duplicates += 1
            return False
        assert self._pool.is_current(ref), f"{ref} is not current"
        assert len(tokens) == self._page_size, f"{ref} registered with {len(tokens)} tokens"
        self._pool.keep(ref.page)
        self._index.add(PrefixEntry(prefix=prefix, ref=ref, tokens=pack_tokens(tokens)))
        self._log.publish(prefix, parent)
        return True

    def forget(self, refs: Sequence[PageRef]) -> None:
        """Nobody may find these pages any more: their content is in doubt. Their readers keep them until they leave."""
        for ref in refs:
            entry = self._index.find_page(ref.page)
            if entry is not None and entry.ref == ref:
                self._give_up(ref.page)

    def reset(self) -> None:
        """Forget every prefix. Pages that nobody reads become free, the others when their readers leave."""
        for page in self._index.pages():
            self._give_up(page)

    def drain_changes(self) -> OwnershipChanges:
        """What the directory must learn: net change since the last call."""
        return self._log.drain()

    # Transfers: straight to the pool, because promised pages are never in the index

    def fulfil(self, refs: Sequence[PageRef]) -> None:
        """Promised pages have all their bytes."""
        self._pool.fulfil(refs)

    def begin_write(self, refs: Sequence[PageRef]) -> None:
        """A transfer may land in these promised pages from now on."""
        self._pool.begin_write(refs)

    def end_write(self, refs: Sequence[PageRef]) -> tuple[PageId, ...]:
        """It cannot any more. Returns the pages freed by that."""
        return self._pool.end_write(refs)

    def check(self, ref: PageRef) -> None:
        """Raise Fenced when `ref` is of a former life."""
        self._pool.check(ref)

    # Asking

    def readers(self, ref: PageRef) -> int:
        """How many sequences, reservations and exports hold the page."""
        return self._pool.readers(ref)

    def is_current(self, ref: PageRef) -> bool:
        """Whether the page still lives the life that `ref` names."""
        return self._pool.is_current(ref)

    @property
    def num_used_ever(self) -> int:
        """Pages from this one on were never given out."""
        return self._pool.num_used_ever

    def counts(self) -> PageCounts:
        """Pages by state. Constant time."""
        return self._pool.counts()

    def counters(self) -> CacheCounters:
        """A snapshot of the events so far."""
        return CacheCounters(
            hits=self._hits,
            misses=self._misses,
            evictions=self._evictions,
            collisions=self._collisions,
            duplicates=self._duplicates,
            refusals=self._refusals,
        )

    def audit(self) -> None:
        """Check pool and index against each other, page by page. For tests and drains."""
        self._pool.audit()
        cached, idle = self._pool.counts().cached, self._index.num_idle
        assert cached == idle, f"{cached} pages cached in the pool, {idle} idle in the index"
        for page in self._index.pages():
            entry = self._index.find_page(page)
            assert entry is not None, f"page {page} is registered without an entry"
            assert self._pool.is_current(entry.ref), f"the index names a former life of page {page}"
