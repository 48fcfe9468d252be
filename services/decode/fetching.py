"""Fills a promise with pages that a prefill worker keeps: decode asks for them, instead of waiting to be sent some."""

from functools import partial

from common.core.errors import FieldViolation, InvalidRequest
from common.core.request import Work
from common.core.ticket import Ticket
from common.engine.loop import Turns
from common.kv.hashing import context_digest
from common.transfer.endpoint import KvEndpoint
from services.decode.arrivals import Arrivals
from services.decode.core import DecodeCore
from services.decode.messages import DecodeEvent
from services.decode.reservations import Promise


class Fetching:
    """Between the servicer, the arrivals and the transfer room. Keeps nothing: what it began is the promise's."""

    def __init__(
        self, endpoint: KvEndpoint, *, core: DecodeCore, turns: Turns[DecodeEvent], arrivals: Arrivals
    ) -> None:
        self._endpoint = endpoint
        self._core = core
        self._turns = turns
        self._arrivals = arrivals

    async def begin(self, work: Work, promise: Promise, ticket: Ticket) -> None:
        """Has the missing pages pushed into the promise. It is released when they will not come.

        Raises InvalidRequest for a ticket of another number of pages, what the holder raised, or that it is away. What
        happens later is told as WorkFailed, as for pages that were sent.
        """
        limits = self._endpoint.limits
        # A holder that agreed and then died, or cannot reach us, begins nothing: opening a channel bounds it.
        must_begin_s = limits.open_timeout_s + limits.offer_s * limits.control_tries
        try:
            _check_pages(promise.total_pages, ticket.num_pages)
            transfer = self._arrivals.expect(work, promise, work.attempt, must_begin_s=must_begin_s)
            await self._endpoint.pull(
                ticket,
                transfer,
                work.request,
                held_pages=promise.held_pages,
                context_digest=context_digest(work.context, work.cache_scope),
            )
        except BaseException:  # a cancelled call too: nobody waits for these pages
            self._turns.post(partial(self._core.cancel, work.request, work.attempt))
            raise


def _check_pages(wanted: int, told: int) -> None:
    if wanted != told:
        description = f"a ticket for {told} pages, the context has {wanted}"
        raise InvalidRequest(
            message=description, violations=(FieldViolation(field="ticket.num_pages", description=description),)
        )
