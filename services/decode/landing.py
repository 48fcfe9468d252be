"""Verified page bytes on their way from staging into promised pages, a slice per step.

A slice is at most `slice_bytes`, so that landing a long prompt does not stall the running batch.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from common.core.ids import PageRef, ReservationId
from common.kv.cache import PageCache
from common.kv.storage import PageStorage


@dataclass(slots=True)
class Landing:
    """Writer: the decode core. Bytes of `pages` lie consecutively in `data`; the first `done` pages are copied."""

    reservation: ReservationId
    attempt: int
    first_page: int
    pages: tuple[PageRef, ...]
    data: memoryview
    done: int = 0


class LandingStrip:
    """Landings in order of arrival. Writer refs are held while a landing is here, so its pages cannot be reused."""

    def __init__(self, *, cache: PageCache, storage: PageStorage, slice_bytes: int) -> None:
        self._cache = cache
        self._storage = storage
        self._slice_pages = max(1, slice_bytes // storage.layout.page_bytes)
        self._queue: deque[Landing] = deque()
        self.landed_bytes = 0

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, landing: Landing) -> None:
        self._cache.begin_write(landing.pages)
        self._queue.append(landing)

    def advance(self) -> tuple[Landing, ...]:
        """Copy one slice. The landings that it completed."""
        finished: list[Landing] = []
        room = self._slice_pages
        while self._queue and room > 0:
            landing = self._queue[0]
            count = min(room, len(landing.pages) - landing.done)
            self._copy(landing, landing.pages[landing.done : landing.done + count])
            landing.done += count
            room -= count
            if landing.done == len(landing.pages):
                finished.append(self._queue.popleft())
                self._cache.end_write(landing.pages)
        return tuple(finished)

    def _copy(self, landing: Landing, pages: Sequence[PageRef]) -> None:
        page_bytes = self._storage.layout.page_bytes
        for ref in pages:
            self._cache.check(ref)
        start = landing.done * page_bytes
        self._storage.scatter([ref.page for ref in pages], landing.data[start : start + len(pages) * page_bytes])
        self.landed_bytes += len(pages) * page_bytes

    def drop(self, reservation: ReservationId) -> tuple[Landing, ...]:
        """Forget the landings of one reservation: nothing of them will be written any more."""
        dropped = tuple(landing for landing in self._queue if landing.reservation == reservation)
        for landing in dropped:
            self._queue.remove(landing)
            self._cache.end_write(landing.pages)
        return dropped
