"""Leave to write into the pages of one attempt at a promise. It is what lets bytes land beside a step.

    FREE --enter--> BUSY --leave--> FREE            one copy at a time
    FREE --revoke--> OVER                           nobody writes any more: the pages may go at once
    BUSY --revoke--> ENDING --leave--> OVER         whoever leaves tells the step loop, and the pages go then

While a permit is not over, its pages have a writer in the pool: nobody else gets them, whatever becomes of the promise.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from common.core.ids import PageId, PageRef, ReservationId
from common.transfer.messages import PageRun


class PermitState(StrEnum):
    """See the drawing above."""

    FREE = "free"
    BUSY = "busy"
    ENDING = "ending"
    OVER = "over"


@dataclass(frozen=True, slots=True, kw_only=True)
class PagesLanded:
    """Verified bytes are in their pages. `whole_run`: the run that they complete, if they do."""

    reservation: ReservationId
    attempt: int
    pages: PageRun
    whole_run: PageRun | None


class Permit:
    """The step loop makes and revokes it, the event loop enters and leaves: neither waits for the other.

    `pages` are those that the attempt must bring, the first of them page `first_page` of the request.
    """

    def __init__(self, *, reservation: ReservationId, attempt: int, first_page: int, pages: Sequence[PageRef]) -> None:
        self.reservation = reservation
        self.attempt = attempt
        self.pages = tuple(pages)
        self._first_page = first_page
        self._state = PermitState.FREE
        self._lock = threading.Lock()

    @property
    def state(self) -> PermitState:
        return self._state

    def pages_of(self, run: PageRun) -> list[PageId]:
        """Where the pages of a run lie here."""
        start, end = run.first_page - self._first_page, run.end - self._first_page
        assert 0 <= start <= end <= len(self.pages), f"{self.reservation}: {run} was not promised"
        return [ref.page for ref in self.pages[start:end]]

    def enter(self) -> bool:
        """Begin to write. False: it was revoked, and not a byte may be written. One True, one `leave`."""
        with self._lock:
            assert self._state in (PermitState.FREE, PermitState.OVER), f"{self.reservation} is {self._state} already"
            if self._state is PermitState.OVER:
                return False
            self._state = PermitState.BUSY
            return True

    def leave(self) -> bool:
        """Nothing is written until the next `enter`. False: revoked meanwhile, which the step loop must be told."""
        with self._lock:
            assert self._state in (PermitState.BUSY, PermitState.ENDING), f"{self.reservation} is {self._state}"
            is_wanted = self._state is PermitState.BUSY
            self._state = PermitState.FREE if is_wanted else PermitState.OVER
            return is_wanted

    def revoke(self) -> bool:
        """Once. True: nobody writes. False: somebody still does, and will tell."""
        with self._lock:
            assert self._state in (PermitState.FREE, PermitState.BUSY), f"{self.reservation} is {self._state} already"
            is_free = self._state is PermitState.FREE
            self._state = PermitState.OVER if is_free else PermitState.ENDING
            return is_free
