"""Leave to copy kept pages out. It is what lets a fetch be served beside the steps.

    IDLE --enter--> COPYING --last leave--> IDLE           any number of copies at a time
    IDLE --revoke--> OVER                                  nobody copies any more: the pages may go at once
    COPYING --revoke--> ENDING --last leave--> OVER        whoever leaves last tells the step loop, and they go then

While a loan is not over, its pages have a reader: nobody writes over them, whatever became of the request.
"""

import threading
from collections.abc import Sequence

from common.core.ids import PageId, PageRef
from common.transfer.messages import PageRun


class Loan:
    """The step loop makes and revokes it, the event loop enters and leaves: neither waits for the other."""

    def __init__(self, pages: Sequence[PageRef]) -> None:
        self.pages = tuple(pages)
        self._num_copies = 0
        self._is_revoked = False
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.pages)

    def pages_of(self, run: PageRun) -> list[PageId]:
        """Where the pages of a run lie here."""
        assert run.end <= len(self.pages), f"{run} of {len(self.pages)} kept pages"
        return [ref.page for ref in self.pages[run.first_page : run.end]]

    def enter(self) -> bool:
        """Begin to copy. False: it was revoked, and not a byte may be read. One True, one `leave`."""
        with self._lock:
            if not self._is_revoked:
                self._num_copies += 1
            return not self._is_revoked

    def leave(self) -> bool:
        """This copy is over. False: it was the last of a loan that was revoked, which the step loop must be told."""
        with self._lock:
            assert self._num_copies > 0, "nobody copies under this loan"
            self._num_copies -= 1
            return not self._is_revoked or self._num_copies > 0

    def revoke(self) -> bool:
        """Once. True: nobody copies. False: somebody still does, and will tell."""
        with self._lock:
            assert not self._is_revoked, "a loan is revoked once"
            self._is_revoked = True
            return self._num_copies == 0
