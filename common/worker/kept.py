"""Kept pages as the event loop sees them: their tickets, and the page source of the transfer room.

What is fetched is copied out beside the steps: it would wait for the end of one otherwise, and again for every few
buffers that it takes.
"""

import asyncio
from functools import partial
from typing import Any, Protocol

from common.core.errors import BatonError, Fenced, Reason, Refused
from common.core.ids import RequestId
from common.core.request import Work
from common.core.ticket import Ticket
from common.engine.loop import Turns
from common.kv.digest import DigestKey
from common.kv.hashing import context_digest
from common.kv.seal import Sealing
from common.kv.span import Span
from common.transfer.endpoint import KvEndpoint
from common.transfer.fetch import Retained
from common.transfer.messages import PageRun
from common.transfer.offload import Offload
from common.worker.lending import keep_prefix, name_of
from common.worker.retention import PagesDropped, PagesKept, Retention


class KeepingCore(Protocol):
    """A core that keeps pages: its retention is only touched on its step loop."""

    @property
    def retention(self) -> Retention: ...


class KeptPages:
    """Writer: the event loop. A PageSource: everything kept has one ticket, whose lease ends its keeping."""

    def __init__(
        self, endpoint: KvEndpoint, *, core: KeepingCore, turns: Turns[Any], offload: Offload, lease_s: float
    ) -> None:
        self._endpoint = endpoint
        self._retention = core.retention
        self._turns = turns
        self._offload = offload
        self._lease_s = lease_s
        self._kept: dict[RequestId, PagesKept] = {}
        self._lent: set[RequestId] = set()
        endpoint.keep(self)

    async def lend(self, work: Work, lease_s: float) -> Ticket | None:
        """For whatever the cache holds of the work's context; None where that is nothing. Raises as `keep_prefix`."""
        try:
            kept = await self._turns.call(lambda: keep_prefix(work, self._retention))
        except asyncio.CancelledError:  # whoever asked is gone, and the core keeps them nevertheless
            self._turns.post(partial(self._retention.release, name_of(work), work.attempt))
            raise
        return None if kept is None else self.ticket(kept, lease_s=lease_s)

    def ticket(self, event: PagesKept, *, lease_s: float | None = None) -> Ticket:
        """The core keeps them: the right to fetch them, for no longer than usual. Raises what speaks against one; then
        they are let go."""
        lease_s = self._lease_s if lease_s is None else min(lease_s, self._lease_s)
        try:
            if event.name in self._lent:
                raise Refused(message=f"pages of an older attempt of {event.name} are on their way still")
            ticket = self._endpoint.mint_ticket(event.name, num_pages=event.finale.total_pages, lease_s=lease_s)
        except BatonError:
            self._turns.post(partial(self._retention.release, event.name, event.work.attempt))
            raise
        self._kept[event.name] = event
        return ticket

    def dropped(self, event: PagesDropped) -> None:
        """The core gave them up: no ticket names them any more, and a push under way ends at its next run."""
        kept = self._kept.get(event.name)
        if kept is not None and kept.work.attempt == event.attempt:
            del self._kept[event.name]
            self._endpoint.withdraw_ticket(event.name)

    # What the transfer room asks

    def retained(self, request: RequestId) -> Retained | None:
        kept = self._kept.get(request)
        if kept is None:
            return None
        self._lent.add(request)
        digest = context_digest(kept.context, kept.work.cache_scope)
        return Retained(num_pages=kept.finale.total_pages, finale=kept.finale, context_digest=digest)

    async def gather(self, request: RequestId, run: PageRun, out: Span, key: DigestKey | None) -> Sealing | None:
        kept, retention = self._kept.get(request), self._retention
        if kept is None or run.end > len(kept.loan) or not kept.loan.enter():
            raise Fenced(message=f"pages {run} of {request} are not kept here any more", reason=Reason.TICKET_INVALID)
        try:
            # Even a cancelled push waits for a copy that has begun: until it is made, the buffer is not free.
            sealing = await self._offload.run(lambda: retention.copy_out(kept.loan, run, out, key))
        finally:
            if not kept.loan.leave():
                self._turns.post(partial(retention.left, kept.loan))
        self._turns.post(partial(retention.copied, out.nbytes))
        return sealing

    def release(self, request: RequestId) -> None:
        self._lent.discard(request)
        kept = self._kept.pop(request, None)
        if kept is not None:
            self._turns.post(partial(self._retention.release, request, kept.work.attempt))
