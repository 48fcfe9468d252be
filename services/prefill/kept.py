"""Kept pages as the event loop sees them: their tickets, and the page source of the transfer room."""

from collections.abc import Callable
from functools import partial

from common.core.errors import BatonError, Reason, Refused
from common.core.events import TicketIssued, WorkEvent, WorkFailed
from common.core.ids import RequestId, RouterRef
from common.core.request import Work
from common.core.worker import Role
from common.engine.loop import Turns
from common.kv.hashing import context_digest
from common.kv.staging import Staging
from common.transfer.endpoint import KvEndpoint
from common.transfer.fetch import Retained
from common.transfer.messages import PageRun
from common.transfer.scope import outlast
from services.prefill.core import PrefillCore
from services.prefill.messages import PagesDropped, PagesKept, PrefillEvent


class KeptPages:
    """Writer: the event loop. A PageSource: every kept request has one ticket, whose lease ends its keeping."""

    def __init__(
        self,
        endpoint: KvEndpoint,
        *,
        core: PrefillCore,
        turns: Turns[PrefillEvent],
        tell: Callable[[RouterRef, WorkEvent], None],
        lease_s: float,
    ) -> None:
        self._endpoint = endpoint
        self._core = core
        self._turns = turns
        self._tell = tell
        self._lease_s = lease_s
        self._kept: dict[RequestId, PagesKept] = {}
        self._lent: set[RequestId] = set()
        endpoint.keep(self)

    def kept(self, event: PagesKept) -> None:
        """The core keeps them: whoever placed the work gets the ticket."""
        work = event.work
        try:
            if work.request in self._lent:
                raise Refused(message=f"pages of an older attempt of {work.request} are on their way still")
            ticket = self._endpoint.mint_ticket(work.request, num_pages=event.finale.total_pages, lease_s=self._lease_s)
        except BatonError as error:
            self._turns.post(partial(self._core.release_kept, work.request, work.attempt))
            self._tell(work.router, _failed(work, error.reason, error.message))
            return
        self._kept[work.request] = event
        self._tell(work.router, TicketIssued(request=work.request, attempt=work.attempt, ticket=ticket))

    def dropped(self, event: PagesDropped) -> None:
        """The core gave them up: no ticket names them any more, and a push under way ends at its next run."""
        kept = self._kept.get(event.request)
        if kept is not None and kept.work.attempt == event.attempt:
            del self._kept[event.request]
            self._endpoint.withdraw_ticket(event.request)

    # What the transfer room asks

    def retained(self, request: RequestId) -> Retained | None:
        kept = self._kept.get(request)
        if kept is None:
            return None
        self._lent.add(request)
        digest = context_digest(kept.work.context, kept.work.cache_scope)
        return Retained(num_pages=kept.finale.total_pages, finale=kept.finale, context_digest=digest)

    async def gather(self, request: RequestId, run: PageRun, staging: Staging) -> None:
        kept = self._kept.get(request)
        attempt = 0 if kept is None else kept.work.attempt
        # Even a cancelled push waits: until the step loop has written, the buffer is not free.
        await outlast(self._turns.call(lambda: self._core.gather_kept(request, attempt, run, staging.view)))

    def release(self, request: RequestId) -> None:
        self._lent.discard(request)
        kept = self._kept.pop(request, None)
        if kept is not None:
            self._turns.post(partial(self._core.release_kept, request, kept.work.attempt))


def _failed(work: Work, reason: Reason, message: str) -> WorkFailed:
    return WorkFailed(request=work.request, attempt=work.attempt, role=Role.PREFILL, reason=reason, message=message)
