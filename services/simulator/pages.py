"""The page cache of a simulated worker: who holds which page, by counting. No bytes, no ids of single pages.

Stands in for `common/kv/cache.py` with the same rules: a full page stays after its last reader until somebody needs the
room; the least recently used goes first, and of one context the last page before the first; what is registered already
stays private to the second who computes it. A test runs both side by side.
"""

from collections import OrderedDict
from collections.abc import Sequence

from common.core.worker import PageCounts
from common.directory.owners import Slot
from services.simulator.holders import Holders


class CountedPages:
    """Writer: its machine. `slot` is the machine's place in the holders' masks."""

    def __init__(self, *, total: int, slot: Slot, holders: Holders) -> None:
        self.total = total
        self._slot = slot
        self._holders = holders
        self._readers: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._num_private = 0
        self._num_promised = 0
        self.evictions = 0

    def available(self) -> int:
        """Pages that could be had now: free, or cached and read by nobody."""
        return self.total - len(self._readers) - self._num_private - self._num_promised

    def find(self, pages: Sequence[int]) -> int:
        """Length of the longest leading run that is here."""
        count = 0
        for page in pages:
            if page not in self._readers and page not in self._idle:
                break
            count += 1
        return count

    def retain(self, pages: Sequence[int]) -> None:
        """One more reader each of pages that are here."""
        for page in pages:
            known = self._readers.get(page)
            if known is None:
                del self._idle[page]
                self._readers[page] = 1
            else:
                self._readers[page] = known + 1

    def allocate(self, count: int) -> bool:
        """Private pages to compute into; evicts if it must. False, and nothing changed, when that cannot do."""
        if not self._make_room(count):
            return False
        self._num_private += count
        return True

    def promise(self, count: int) -> bool:
        """Private pages that a transfer will fill."""
        if not self._make_room(count):
            return False
        self._num_promised += count
        return True

    def fulfil(self, count: int) -> None:
        """Promised pages have their content."""
        self._num_promised -= count
        self._num_private += count

    def forgo(self, count: int) -> None:
        """Promised pages are given back."""
        self._num_promised -= count

    def register(self, page: int) -> bool:
        """One private page is full and has a name. False, and it stays private, when that name is here already."""
        if page in self._readers or page in self._idle:
            return False
        self._num_private -= 1
        self._readers[page] = 1
        self._holders.add(page, self._slot)
        return True

    def release(self, pages: Sequence[int], private: int) -> None:
        """A context leaves: its named pages, in order, and its private ones."""
        self._num_private -= private
        for page in reversed(pages):
            left = self._readers[page] - 1
            if left:
                self._readers[page] = left
            else:
                del self._readers[page]
                self._idle[page] = None

    def counts(self) -> PageCounts:
        cached = len(self._idle)
        referenced = len(self._readers) + self._num_private
        return PageCounts(
            total=self.total,
            free=self.total - cached - referenced - self._num_promised,
            promised=self._num_promised,
            referenced=referenced,
            cached=cached,
        )

    def _make_room(self, count: int) -> bool:
        if count > self.available():
            return False
        free = self.available() - len(self._idle)
        for _ in range(count - free):
            page, _ = self._idle.popitem(last=False)
            self._holders.drop(page, self._slot)
            self.evictions += 1
        return True
