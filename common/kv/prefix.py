"""The prefix index: which page holds which prefix, by hash, and which of them nobody reads at the moment.

It knows names and order, not counts: the pool has those. Every operation takes constant time.
"""

from collections import OrderedDict
from dataclasses import dataclass

from common.core.ids import PageId, PageRef, PrefixHash


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixEntry:
    """One registered page. `tokens` are the page's own ids, packed: a hit compares them before the page is used."""

    prefix: PrefixHash
    ref: PageRef
    tokens: bytes


class PrefixIndex:
    """Hash to page, and the idle pages from least to most recently used. Writer: the page cache."""

    def __init__(self) -> None:
        self._by_prefix: dict[PrefixHash, PrefixEntry] = {}
        self._by_page: dict[PageId, PrefixEntry] = {}
        self._idle: OrderedDict[PageId, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_prefix)

    def __contains__(self, prefix: object) -> bool:
        return prefix in self._by_prefix

    @property
    def num_idle(self) -> int:
        return len(self._idle)

    def find(self, prefix: PrefixHash) -> PrefixEntry | None:
        """The page that holds a prefix. Whoever uses it compares the token ids first."""
        return self._by_prefix.get(prefix)

    def find_page(self, page: PageId) -> PrefixEntry | None:
        """The prefix that a page holds, if it is registered."""
        return self._by_page.get(page)

    def add(self, entry: PrefixEntry) -> None:
        """Name a page that is being read. Neither the prefix nor the page may be known already."""
        assert entry.prefix not in self._by_prefix, f"prefix {entry.prefix.hex()} is registered already"
        assert entry.ref.page not in self._by_page, f"page {entry.ref.page} is registered already"
        self._by_prefix[entry.prefix] = entry
        self._by_page[entry.ref.page] = entry

    def remove(self, page: PageId) -> PrefixEntry:
        """Forget a page, idle or not."""
        entry = self._by_page.pop(page)
        del self._by_prefix[entry.prefix]
        self._idle.pop(page, None)
        return entry

    def mark_idle(self, page: PageId) -> None:
        """Nobody reads the page any more: it is now the most recently used of the idle."""
        assert page in self._by_page, f"page {page} is not registered"
        assert page not in self._idle, f"page {page} is idle already"
        self._idle[page] = None

    def mark_busy(self, page: PageId) -> None:
        """Somebody reads the page: it may not be evicted. Nothing happens when it was busy before."""
        self._idle.pop(page, None)

    def least_recent(self) -> PageId | None:
        """The idle page to evict first."""
        return next(iter(self._idle), None)

    def pages(self) -> tuple[PageId, ...]:
        """Every registered page, in the order of registration."""
        return tuple(self._by_page)
