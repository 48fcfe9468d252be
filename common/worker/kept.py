"""Kept pages as the event loop sees them: their tickets, and the page source of the transfer room."""

import asyncio
from functools import partial
from typing import Any, Protocol

from common.core.errors import BatonError, Refused
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
from common.transfer.scope import outlast
from common.worker.lending import keep_prefix, name_of
from common.worker.retention import PagesDropped, PagesKept, Retention


class KeepingCore(Protocol):
    """A core that keeps pages: its retention is only touched on its step loop."""

    @property
    def retention(self) -> Retention: ...


class KeptPages:
    """Writer: the event loop. A PageSource: everything kept has one ticket, whose lease ends its keeping."""

    def __init__(self, endpoint: KvEndpoint, *, core: KeepingCore, turns: Turns[Any], lease_s: float) -> None:
        self._endpoint = endpoint
        self._retention = core.retention
        self._turns = turns
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
        kept = self._kept.get(request)
        attempt = 0 if kept is None else kept.work.attempt
        # Even a cancelled push waits: until the step loop has written, the buffer is not free.
        return await outlast(self._turns.call(lambda: self._retention.gather(request, attempt, run, out, key)))

    def release(self, request: RequestId) -> None:
        self._lent.discard(request)
        kept = self._kept.pop(request, None)
        if kept is not None:
            self._turns.post(partial(self._retention.release, request, kept.work.attempt))
