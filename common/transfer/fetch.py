"""Pull: a holder pushes retained pages into the caller's reservation, with the same outbound transfer as a hand-off."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from common.core.errors import BatonError, Fenced, InvalidRequest, Reason
from common.core.ids import RequestId, WorkerRef
from common.kv.digest import DigestKey
from common.kv.seal import Sealing
from common.kv.span import Span
from common.kv.staging import StagingPool
from common.transfer.channel import Lent
from common.transfer.counters import TransferCounters
from common.transfer.lane import Lane
from common.transfer.limits import TransferLimits
from common.transfer.messages import Fetch, Finale, OutcomeState, PageRun, TransferRef
from common.transfer.outbound import OutboundTransfer
from common.transfer.plan import max_run_pages, run_bytes, split
from common.transfer.scope import TaskScope
from common.transfer.ticket import TicketOffice


@dataclass(frozen=True, slots=True, kw_only=True)
class Retained:
    """Pages kept for a request after its prompt was read, and what prefill sampled."""

    num_pages: int
    finale: Finale
    context_digest: bytes = b""


class PageSource(Protocol):
    """Who keeps the pages. Its methods are called on the event loop."""

    def retained(self, request: RequestId) -> Retained | None:
        """What is kept, lent to the caller until its `release`; None when nothing is."""
        ...

    async def gather(self, request: RequestId, run: PageRun, out: Span, key: DigestKey | None) -> Sealing | None:
        """Copies the run's pages to `out`, which has exactly their size; with a key, and where that costs no more, with
        their digests. Raises Fenced when they are gone."""
        ...

    def release(self, request: RequestId) -> None:
        """Nobody will fetch them any more: fetched, or the lease has ended. Idempotent."""
        ...


class FetchDesk:
    """Redeems tickets and pushes what they name. At most half of the staging buffers are used by pushes, so that two
    workers that fetch from each other cannot both wait for the other's buffers. Writer: the event loop."""

    def __init__(
        self,
        me: WorkerRef,
        *,
        page_bytes: int,
        source: PageSource | None,
        tickets: TicketOffice,
        staging: StagingPool,
        start: Callable[[TransferRef, WorkerRef], OutboundTransfer],
        limits: TransferLimits,
        counters: TransferCounters,
        scope: TaskScope,
    ) -> None:
        self._me = me
        self._page_bytes = page_bytes
        self._source = source
        self._tickets = tickets
        self._staging = staging
        self._start = start
        self._limits = limits
        self._counters = counters
        self._scope = scope
        self._places = asyncio.Semaphore(max(1, staging.count // 2))

    async def fetch(self, fetch: Fetch) -> int:
        """Begins the push and returns how many pages it will bring. The same fetch heard twice is one push.

        Raises Fenced (TICKET_INVALID, or another incarnation), InvalidRequest.
        """
        if fetch.transfer.sender_epoch != self._me.epoch or fetch.transfer.receiver_epoch != fetch.receiver.epoch:
            raise Fenced(message=f"{fetch.transfer} names other incarnations than {self._me.worker} and its caller")
        if not 0 <= fetch.held_pages <= fetch.ticket.num_pages:
            raise InvalidRequest(message=f"{fetch.held_pages} pages held of {fetch.ticket.num_pages}")
        is_repeat = self._tickets.is_redeemed(fetch.ticket)
        self._tickets.redeem(fetch.ticket, fetch.transfer.transfer)
        if not is_repeat:
            retained = None if self._source is None else self._source.retained(fetch.ticket.request)
            if self._source is None or retained is None:
                raise _invalid(f"the pages of {fetch.ticket.request} are gone")
            if retained.num_pages != fetch.ticket.num_pages or retained.context_digest != fetch.context_digest:
                self._source.release(fetch.ticket.request)
                raise _invalid(f"the pages of {fetch.ticket.request} are those of another context")
            self._scope.spawn(self._push(fetch, retained, self._source), name=f"push {fetch.transfer}")
        return fetch.ticket.num_pages - fetch.held_pages

    def serve(self, source: PageSource) -> None:
        """From now on these pages can be fetched."""
        self._source = source

    def expire(self) -> None:
        """Frees what nobody fetched in time. Called on a timer."""
        for request in self._tickets.expire():
            if self._source is not None:
                self._source.release(request)

    async def _push(self, fetch: Fetch, retained: Retained, source: PageSource) -> None:
        """Gather, ship, repeat. The ticket serves once: pages are released when their bytes have left, whatever becomes
        of them, for a receiver that dies then would be waited for as long as a slow one."""
        transfer = self._start(fetch.transfer, fetch.receiver)
        try:
            await transfer.open()
            most = min(self._staging.num_bytes, transfer.max_run_bytes)
            wanted = PageRun(first_page=fetch.held_pages, num_pages=retained.num_pages - fetch.held_pages)
            await self._push_runs(transfer, source, fetch.ticket.request, wanted, max_run_pages(most, self._page_bytes))
            await transfer.finish(retained.finale)
        except BatonError as error:
            # The caller hears of it from its own side of the transfer.
            transfer.abort(error.reason, error.message)
        finally:
            source.release(fetch.ticket.request)
        outcome = await transfer.wait_outcome(self._limits.idle_timeout_s)
        if outcome.state is not OutcomeState.DONE:
            self._counters.incidents["fetch_failed"] += 1

    async def _push_runs(
        self, transfer: OutboundTransfer, source: PageSource, request: RequestId, wanted: PageRun, most_pages: int
    ) -> None:
        """The next run is gathered and offered while one is on its way. The first failure is the transfer's."""
        ahead = asyncio.Semaphore(self._limits.max_announced)
        async with asyncio.TaskGroup() as under_way:
            for run in split(wanted, most_pages):
                await ahead.acquire()  # bounded: given back by a run that ends, and every wait of a run has a deadline
                if transfer.outcome.is_terminal:
                    break
                under_way.create_task(self._push_run(transfer, source, request, run, ahead))

    async def _push_run(
        self,
        transfer: OutboundTransfer,
        source: PageSource,
        request: RequestId,
        run: PageRun,
        ahead: asyncio.Semaphore,
    ) -> None:
        try:
            async with self._places:
                await self._push_out(transfer, source, request, run)
        except BatonError as error:
            transfer.abort(error.reason, error.message)
        finally:
            ahead.release()

    async def _push_out(self, transfer: OutboundTransfer, source: PageSource, request: RequestId, run: PageRun) -> None:
        lane, num_bytes = transfer.lane, run_bytes(run, self._page_bytes)
        room = await self._room(lane, num_bytes)
        try:
            out = room.view[:num_bytes]
            sealing = await source.gather(request, run, out, None if lane is None else lane.key)
            await transfer.ship(run, out, sealing)
        finally:
            room.release()

    async def _room(self, lane: Lane | None, num_bytes: int) -> Lent:
        """Where a run is gathered: at the receiver, where the channel has that and has room, else in staging here."""
        if lane is not None and (slot := lane.lend(num_bytes)) is not None:
            return slot
        return await self._staging.acquire(self._limits.idle_timeout_s)


def _invalid(message: str) -> Fenced:
    return Fenced(message=message, reason=Reason.TICKET_INVALID)
