"""Pages kept after their sequence left, until somebody fetches them: what the step loop knows of it.

    keep --gather...--> release            fetched, or the lease ended: the event loop says which
      '--cancelled, late, its router gone--> dropped: the event loop is told

A kept page is referenced, like a page that is being read: it counts, and nobody can take it. Nobody writes it either,
so it is copied out beside the steps, under its loan (loan.py). Prefill keeps prompts that were read without a
destination, decode what it hands over to another decode worker, both what is cached of another one's prompt.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from common.core.errors import Reason, Refused
from common.core.ids import RequestId, TokenId
from common.core.request import Work
from common.kv.cache import PageCache
from common.kv.digest import DigestKey
from common.kv.layout import PageLayout
from common.kv.seal import Sealing
from common.kv.span import Span
from common.kv.storage import PageStorage
from common.transfer.messages import Finale, PageRun
from common.transfer.plan import digest_index
from common.worker.loan import Loan


@dataclass(frozen=True, slots=True, kw_only=True)
class PagesKept:
    """Pages of `context` wait for a fetch. `name` is what their ticket names: unique among what is kept here."""

    name: RequestId
    work: Work
    context: tuple[TokenId, ...]
    finale: Finale
    loan: Loan


@dataclass(frozen=True, slots=True, kw_only=True)
class PagesDropped:
    """Kept pages were given up before anybody was done with them."""

    name: RequestId
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionLimits:
    """Requests and pages that may be kept or on their way to it: the rest of the pool stays for reading."""

    max_requests: int
    max_pages: int


class KeepingCounters(Protocol):
    """What a core counts of its kept pages."""

    kept: int
    refused_keeps: int
    gathered_bytes: int


class Retention:
    """Writer: the core that owns it. One set of pages per name. `tell`: for the event loop."""

    def __init__(
        self,
        *,
        cache: PageCache,
        storage: PageStorage,
        limits: RetentionLimits,
        tell: Callable[[PagesDropped], None],
        counters: KeepingCounters,
    ) -> None:
        self.cache = cache
        self._storage = storage
        self._limits = limits
        self._tell = tell
        self._counters = counters
        self._kept: dict[RequestId, PagesKept] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, name: RequestId) -> bool:
        return name in self._kept

    @property
    def layout(self) -> PageLayout:
        return self._storage.layout

    def attempt_of(self, name: RequestId) -> int | None:
        """The attempt whose pages are kept, or None."""
        kept = self._kept.get(name)
        return None if kept is None else kept.work.attempt

    def check_room(self, pages: int, *, coming_requests: int, coming_pages: int) -> None:
        """May one more prompt with so many pages be read to be kept, beside those that are read now? Raises Refused."""
        num_requests = len(self._kept) + coming_requests
        num_pages = sum(len(kept.loan) for kept in self._kept.values()) + coming_pages
        if num_requests >= self._limits.max_requests or num_pages + pages > self._limits.max_pages:
            self._counters.refused_keeps += 1
            raise Refused(
                message=f"{num_pages} pages of {num_requests} requests are kept for a fetch already, {pages} more do "
                f"not fit {self._limits.max_pages} of {self._limits.max_requests}",
                reason=Reason.NO_PAGES,
                retry_after_s=0.5,
                quota_subject="kept pages",
            )

    def keep(self, kept: PagesKept) -> None:
        """One more reader of every page. The event loop must hear of `kept` next, to make its ticket."""
        assert kept.name not in self._kept, f"{kept.name} is kept twice"
        self.cache.retain(kept.loan.pages)
        self._kept[kept.name] = kept
        self._counters.kept += 1

    def copy_out(self, loan: Loan, run: PageRun, out: Span, key: DigestKey | None = None) -> Sealing | None:
        """A run to `out`, with a key with its digests. On any thread, by who has entered the loan."""
        pages = loan.pages_of(run)
        if key is not None:
            return self._storage.gather_sealed(pages, out, key, first_index=digest_index(run))
        self._storage.gather(pages, out)
        return None

    def copied(self, num_bytes: int) -> None:
        """So much was copied out."""
        self._counters.gathered_bytes += num_bytes

    def left(self, loan: Loan) -> None:
        """Nobody copies under this loan any more, which was revoked meanwhile."""
        self.cache.release(loan.pages)

    def release(self, name: RequestId, attempt: int) -> None:
        """Nobody will fetch them any more: full pages become cache. Idempotent."""
        kept = self._kept.get(name)
        if kept is not None and kept.work.attempt == attempt:
            self._release(name)

    def give_up(self, is_meant: Callable[[RequestId, Work], bool]) -> int:
        """Drop the pages of work that is over, by name and work; of how many requests."""
        meant = [(name, kept) for name, kept in self._kept.items() if is_meant(name, kept.work)]
        for name, kept in meant:
            self._release(name)
            self._tell(PagesDropped(name=name, attempt=kept.work.attempt))
        return len(meant)

    def _release(self, name: RequestId) -> None:
        loan = self._kept.pop(name).loan
        if loan.revoke():
            self.cache.release(loan.pages)
