"""Whether a worker that refused may be offered work again: once per sign of a free place, never in a herd.

    OPEN -- refused --> CLOSED -- a place was freed, a report shows room, or patience --> HALF_OPEN (a few offers)
      ^                   ^                                                                |  |
      |                   '----------------------- refused --------------------------------'  |
      '-------------------------- OPEN_AFTER offers taken in a row ---------------------------'

Requests wait in the router's queue meanwhile, where class, fairness and deadlines count.
"""

from dataclasses import dataclass

from common.core.worker import LoadReport

MAX_CREDIT = 8
"""Chosen: offers that may be under way to a half-open worker; a burst of freed places is not answered by a herd."""

OPEN_AFTER = 4
"""Chosen: offers taken in a row after which the refusal is forgotten."""

PATIENCE_S = 0.05
MAX_PATIENCE_S = 1.0
"""Chosen: a sign may be lost, so a silent worker is asked after a step or two, then half as often each time."""


@dataclass(eq=False, slots=True)
class Window:
    """Writer: the fleet, through one worker's standing."""

    _is_open: bool = True
    _credit: int = 0
    _num_taken: int = 0
    _num_refusals: int = 0
    _asked_at: float = 0.0
    _seen: tuple[int, int] = (0, 0)

    def is_open(self, now: float) -> bool:
        """Whether an offer may be made now."""
        return self._is_open or self._credit > 0 or now - self._asked_at >= self.patience_s

    @property
    def patience_s(self) -> float:
        """After this long without a sign the worker is asked nevertheless."""
        return min(PATIENCE_S * 2.0 ** min(self._num_refusals, 8), MAX_PATIENCE_S)

    def offered(self, now: float) -> None:
        """A placement call is about to be made."""
        if not self._is_open:
            self._credit = max(0, self._credit - 1)
            self._asked_at = now

    def taken(self) -> None:
        """The worker accepted an offer: it may have room for one more."""
        if self._is_open:
            return
        self._num_taken += 1
        self._num_refusals = 0
        self._is_open = self._num_taken >= OPEN_AFTER
        self._credit = min(self._credit + 1, MAX_CREDIT)

    def refused(self, load: LoadReport, now: float) -> None:
        """The worker had no room."""
        if not self._is_open:
            self._num_refusals += 1
        self._is_open = False
        self._credit = self._num_taken = 0
        self._asked_at = now
        self._seen = _occupied(load)

    def freed(self) -> None:
        """Work that the worker had accepted from this router is over there."""
        if not self._is_open:
            self._credit = min(self._credit + 1, MAX_CREDIT)

    def reported(self, load: LoadReport) -> None:
        """A report with fewer sequences or fewer pages in use than the last one shows a place that somebody left."""
        if self._is_open:
            return
        seen, self._seen = self._seen, _occupied(load)
        if self._seen[0] < seen[0]:
            self._credit = min(self._credit + seen[0] - self._seen[0], MAX_CREDIT)
        elif self._seen[1] < seen[1]:
            self._credit = max(self._credit, 1)


def _occupied(load: LoadReport) -> tuple[int, int]:
    """Sequences and pages that are in use."""
    return load.running_sequences + load.waiting_requests, load.pages.referenced + load.pages.promised
