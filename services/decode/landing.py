"""Verified page bytes on their way from staging into promised pages, a slice per step.

A slice is at most `slice_bytes`, and takes a small share of a step (pace.py), so that landing a long prompt does not
stall the running batch.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from common.core.clock import Clock
from common.core.ids import PageRef, ReservationId
from common.kv.cache import PageCache
from common.kv.storage import PageStorage
from services.decode.pace import ASSUMED_BYTES_PER_S, Recent, plan_slice


@dataclass(slots=True)
class Landing:
    """Writer: the decode core. Bytes of `pages` lie consecutively in `data`; the first `done` pages are copied."""

    reservation: ReservationId
    attempt: int
    first_page: int
    pages: tuple[PageRef, ...]
    data: memoryview
    done: int = 0

    @property
    def num_left(self) -> int:
        return len(self.pages) - self.done


class LandingStrip:
    """Landings in order of arrival. Writer refs are held while a landing is here, so its pages cannot be reused."""

    def __init__(self, *, cache: PageCache, storage: PageStorage, slice_bytes: int, clock: Clock) -> None:
        self._cache = cache
        self._storage = storage
        self._clock = clock
        self._ceiling_pages = max(1, slice_bytes // storage.layout.page_bytes)
        self._assumed_page_s = storage.layout.page_bytes / ASSUMED_BYTES_PER_S
        self._page_s = Recent()
        self._queue: deque[Landing] = deque()
        self.landed_bytes = 0
        self.landing_s = 0.0
        """Time that copies took."""

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, landing: Landing) -> None:
        self._cache.begin_write(landing.pages)
        self._queue.append(landing)

    def advance(self, step_s: float | None) -> tuple[Landing, ...]:
        """Copy one slice, beside a step that takes `step_s` (None: no step). The landings that it completed."""
        finished: list[Landing] = []
        room = self._plan(step_s)
        while self._queue and room > 0:
            landing = self._queue[0]
            count = min(room, landing.num_left)
            self._copy(landing, landing.pages[landing.done : landing.done + count])
            landing.done += count
            room -= count
            if not landing.num_left:
                finished.append(self._queue.popleft())
                self._cache.end_write(landing.pages)
        return tuple(finished)

    def _plan(self, step_s: float | None) -> int:
        measured = self._page_s.median
        return plan_slice(
            waiting_pages=sum(landing.num_left for landing in self._queue),
            page_s=self._assumed_page_s if measured is None else measured,
            step_s=step_s,
            ceiling_pages=self._ceiling_pages,
        )

    def _copy(self, landing: Landing, pages: Sequence[PageRef]) -> None:
        page_bytes = self._storage.layout.page_bytes
        for ref in pages:
            self._cache.check(ref)
        start = landing.done * page_bytes
        began = self._clock.monotonic()
        self._storage.scatter([ref.page for ref in pages], landing.data[start : start + len(pages) * page_bytes])
        taken_s = self._clock.monotonic() - began
        self._page_s.add(taken_s / len(pages))
        self.landing_s += taken_s
        self.landed_bytes += len(pages) * page_bytes

    def drop(self, reservation: ReservationId) -> tuple[Landing, ...]:
        """Forget the landings of one reservation: nothing of them will be written any more."""
        dropped = tuple(landing for landing in self._queue if landing.reservation == reservation)
        for landing in dropped:
            self._queue.remove(landing)
            self._cache.end_write(landing.pages)
        return dropped
