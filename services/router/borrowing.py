"""Cached pages of another worker, asked for before a prompt is placed where they are missing.

The decision says who holds them, and how long fetching them should take. Nothing that the holder answers, or fails to,
breaks a leg or is held against anybody: without a ticket the prompt is read where it was placed.
"""

from enum import StrEnum

from common.core.clock import Clock
from common.core.errors import BatonError
from common.core.request import Work
from common.core.ticket import PrefixTicket
from common.observe.logging import get_log
from services.router.classify import Facts
from services.router.policy import Candidate
from services.router.record import Record
from services.router.workers import Workers

PATIENCE = 4.0
MAX_PATIENCE_S = 4.0
"""Chosen: a fetch that takes four times as long as predicted is not the one that was chosen, and nobody loses more than
the most."""

_LOG = get_log("router")


class Borrowed(StrEnum):
    """What became of a question for cached pages. LESS: so few were left that they are not worth a fetch."""

    GRANTED = "granted"
    LESS = "less"
    REFUSED = "refused"


class Borrowing:
    """Keeps nothing: a ticket that nobody uses ends with its lease, which is as short as the patience."""

    def __init__(self, workers: Workers, clock: Clock, *, min_patience_s: float = 0.25) -> None:
        self._workers = workers
        self._clock = clock
        self._min_patience_s = min_patience_s

    async def prefix(self, work: Work, chosen: Candidate, facts: Facts, record: Record) -> PrefixTicket | None:
        """A ticket for what the route's source holds; None where the route has none, or nothing came of it.

        Waits no longer than a few times what the whole fetch was predicted to take; what is left is the reader's.
        """
        source, route = chosen.route.source, chosen.route
        if source is None or work.sampling.prompt_logprobs is not None:  # such a prompt is read whole
            return None
        until = self._clock.monotonic() + self._patience_s(chosen.terms.get("fetch", 0.0))
        try:
            ticket = await self._workers.keep_prefix(source, work, until - self._clock.monotonic())
        except BatonError as error:
            _LOG.info("prefix_not_lent", request=work.request, holder=source.worker, reason=error.reason)
            record.note_borrowed(Borrowed.REFUSED)
            return None
        left_s = until - self._clock.monotonic()
        has_more = ticket is not None and ticket.num_pages * facts.page_size > facts.cached_tokens(route.reader.worker)
        if ticket is None or not has_more or left_s <= 0:
            record.note_borrowed(Borrowed.LESS)
            return None
        record.note_borrowed(Borrowed.GRANTED)
        return PrefixTicket(ticket=ticket, patience_s=left_s)

    def _patience_s(self, predicted_s: float) -> float:
        """From the question to the last page. Then the prompt is read."""
        return max(min(PATIENCE * predicted_s, MAX_PATIENCE_S), self._min_patience_s)
