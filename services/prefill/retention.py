"""Pages kept after their prompt was read, until somebody fetches them: what the step loop knows of it.

    keep --gather...--> release            fetched, or the lease ended: the event loop says which
      '--cancelled, late, its router gone--> dropped: the event loop is told

A kept page is referenced, like a page that is being read: it counts, and nobody can take it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from common.core.errors import Fenced, Reason, Refused
from common.core.ids import PageRef, RequestId
from common.core.request import Work
from common.engine.telling import Teller
from common.kv.cache import PageCache
from common.kv.storage import PageStorage
from common.transfer.messages import Finale, PageRun
from services.prefill.messages import Exporting, PagesDropped, PagesKept
from services.prefill.prompt import PrefillCounters


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionLimits:
    """Requests and pages that may be kept or on their way to it: the rest of the pool stays for reading."""

    max_requests: int
    max_pages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    work: Work
    pages: tuple[PageRef, ...]


class Retention:
    """Writer: the prefill core. One set of pages per request."""

    def __init__(
        self,
        *,
        cache: PageCache,
        storage: PageStorage,
        limits: RetentionLimits,
        teller: Teller[Exporting],
        counters: PrefillCounters,
    ) -> None:
        self._cache = cache
        self._storage = storage
        self._limits = limits
        self._teller = teller
        self._counters = counters
        self._kept: dict[RequestId, _Kept] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, request: RequestId) -> bool:
        return request in self._kept

    def attempt_of(self, request: RequestId) -> int | None:
        """The attempt whose pages are kept, or None."""
        kept = self._kept.get(request)
        return None if kept is None else kept.work.attempt

    def check_room(self, pages: int, *, coming_requests: int, coming_pages: int) -> None:
        """May one more prompt with so many pages be read to be kept, beside those that are read now? Raises Refused."""
        num_requests = len(self._kept) + coming_requests
        num_pages = sum(len(kept.pages) for kept in self._kept.values()) + coming_pages
        if num_requests >= self._limits.max_requests or num_pages + pages > self._limits.max_pages:
            self._counters.refused_keeps += 1
            raise Refused(
                message=f"{num_pages} pages of {num_requests} requests are kept for a fetch already, {pages} more do "
                f"not fit {self._limits.max_pages} of {self._limits.max_requests}",
                reason=Reason.NO_PAGES,
                retry_after_s=0.5,
                quota_subject="kept pages",
            )

    def keep(self, work: Work, pages: tuple[PageRef, ...], finale: Finale) -> None:
        """One more reader of every page."""
        assert work.request not in self._kept, f"{work.request} is kept twice"
        self._cache.retain(pages)
        self._kept[work.request] = _Kept(work=work, pages=pages)
        self._counters.kept += 1
        self._teller.say(PagesKept(work=work, finale=finale))

    def gather(self, request: RequestId, attempt: int, run: PageRun, view: memoryview) -> None:
        """Copies a run to the front of `view`. Raises Fenced when its pages are not kept any more."""
        kept = self._kept.get(request)
        if kept is None or kept.work.attempt != attempt or run.end > len(kept.pages):
            raise Fenced(message=f"pages {run} of {request} are not kept here any more", reason=Reason.TICKET_INVALID)
        num_bytes = run.num_pages * self._storage.layout.page_bytes
        self._storage.gather([ref.page for ref in kept.pages[run.first_page : run.end]], view[:num_bytes])
        self._counters.gathered_bytes += num_bytes

    def release(self, request: RequestId, attempt: int) -> None:
        """Nobody will fetch them any more: full pages become cache. Idempotent."""
        kept = self._kept.get(request)
        if kept is not None and kept.work.attempt == attempt:
            self._release(kept)

    def give_up(self, is_meant: Callable[[Work], bool]) -> int:
        """Drop the pages of work that is over; of how many requests."""
        meant = [kept for kept in self._kept.values() if is_meant(kept.work)]
        for kept in meant:
            self._release(kept)
            self._teller.say(PagesDropped(request=kept.work.request, attempt=kept.work.attempt))
        return len(meant)

    def _release(self, kept: _Kept) -> None:
        del self._kept[kept.work.request]
        self._cache.release(kept.pages)
