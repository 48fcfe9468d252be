"""KvService of one worker, free of torch and of protobuf: both directions of every transfer, and their shared state.

A worker's composition root makes one endpoint and serves it (servicer.py). Its methods are the service's; beside them:

    async with endpoint:                              the timer and all background work live inside
        endpoint.start(transfer, request, worker)     an OutboundTransfer: see outbound.py. For prefill's shipping
        endpoint.inbound.expect(...) / landed / ...   see inbound.py. For decode's arrivals
        endpoint.keep(source), mint_ticket(...)       pages to be fetched, and the right to Fetch them
        endpoint.pull(ticket, ...)                    has another worker push what its ticket names
        endpoint.drop_peer(worker_id, why)            a worker left: its links end now
        endpoint.snapshot()                           counters and gauges
"""

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from common.core.clock import Clock
from common.core.entropy import Entropy
from common.core.errors import DeadlineExceeded, Reason
from common.core.ids import RequestId, TransferId, WorkerId, WorkerRef
from common.core.ticket import Ticket
from common.kv.layout import PageLayout
from common.kv.scheme import scheme_fingerprint
from common.kv.staging import StagingPool
from common.observe.logging import get_log
from common.transfer.counters import TransferCounters, TransferTotals
from common.transfer.digester import Digester
from common.transfer.dock import Dock
from common.transfer.fetch import FetchDesk, PageSource
from common.transfer.inbound import InboundTransfers
from common.transfer.inlets import InletTable
from common.transfer.lane import Lanes
from common.transfer.limits import TransferLimits
from common.transfer.links import LinkTable
from common.transfer.menu import ChannelMenu
from common.transfer.messages import Fetch, Meet, Met, Offer, Outcome, Pair, ProbeReport, TransferRef
from common.transfer.offload import Offload
from common.transfer.opening import Opener
from common.transfer.outbound import OutboundTransfer
from common.transfer.peer import Peers
from common.transfer.probe import Prober
from common.transfer.reception import Reception
from common.transfer.scope import TaskScope
from common.transfer.ticket import TicketOffice

REAP_EVERY_S = 0.25
"""Chosen: leases here are seconds long; four looks a second cost nothing."""

_LOG = get_log("transfer")


def _tell_bug(task: str, error: BaseException) -> None:
    _LOG.error("transfer_bug", task=task, exc_info=error)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSnapshot:
    """What a metrics scrape sees."""

    channels: tuple[str, ...]
    """What this worker can open, best first."""
    sent: TransferTotals
    received: TransferTotals
    links: int
    inlets: int
    links_over: Counter[str]
    """By channel, as `inlets_over`."""
    inlets_over: Counter[str]
    expected: int
    lent_arrivals: int
    free_staging: int
    background_tasks: int

    def counters(self) -> dict[str, float]:
        """Both directions' totals by name: for people and tests, who compare the two ends of a pair."""
        return {**self.sent.named("sent"), **self.received.named("received")}


class KvEndpoint:
    """Writer of everything below it: the event loop it was entered in."""

    def __init__(
        self,
        me: WorkerRef,
        *,
        layout: PageLayout,
        peers: Peers,
        channels: ChannelMenu,
        staging: StagingPool,
        offload: Offload,
        clock: Clock,
        entropy: Entropy,
        limits: TransferLimits | None = None,
        source: PageSource | None = None,
        dock: Dock | None = None,
    ) -> None:
        """`staging` is for what comes in and for pushes that answer a Fetch; hand-offs bring their own buffers. Where
        pages lie on a GPU, `dock` is for as much of that as can stay there, and its buffers have the same size.

        `source` is None where no pages are retained, or where `keep` names it later.
        """
        self.me = me
        self.limits = limits = limits or TransferLimits()
        self._layout = layout
        self._channels = channels
        self._peers = peers
        self._digester = digester = Digester(offload, dock)
        self._clock = clock
        self._staging = staging
        leaving = staging if dock is None else dock.leaving
        assert dock is None or dock.incoming.num_bytes == leaving.num_bytes == staging.num_bytes
        self._sent = sent = TransferCounters()
        self._received = received = TransferCounters()
        self._scope = scope = TaskScope(received, _tell_bug)
        meet = Meet(layout=layout, scheme=scheme_fingerprint(), host=channels.host)
        self.inbound = inbound = InboundTransfers(
            me, max_run_bytes=staging.num_bytes, limits=limits, counters=received, clock=clock
        )
        self.lanes = Lanes(page_bytes=layout.page_bytes, digester=digester, scope=scope)
        """To the receivers of live links, for whoever gathers what goes there."""
        opener = Opener(
            me,
            meet=meet,
            peers=peers,
            channels=channels,
            limits=limits,
            counters=sent,
            scope=scope,
            clock=clock,
            entropy=entropy,
            dock=dock,
            lanes=self.lanes,
        )
        self._links = LinkTable(opener, limits=limits, counters=sent, scope=scope, clock=clock)
        self._inlets = InletTable(
            me,
            meet=meet,
            inbound=inbound,
            max_run_bytes=staging.num_bytes,
            channels=channels,
            limits=limits,
            counters=received,
            scope=scope,
            clock=clock,
            entropy=entropy,
        )
        self._reception = Reception(
            layout=layout,
            inlets=self._inlets,
            inbound=inbound,
            staging=staging,
            dock=dock,
            digester=digester,
            limits=limits,
            counters=received,
            scope=scope,
            clock=clock,
        )
        self._tickets = TicketOffice(me, clock=clock, entropy=entropy)
        self._fetches = FetchDesk(
            me,
            page_bytes=layout.page_bytes,
            source=source,
            tickets=self._tickets,
            staging=leaving,
            start=self._start,
            limits=limits,
            counters=sent,
            scope=scope,
        )
        self._prober = Prober(
            layout.page_bytes,
            meet=meet,
            links=self._links,
            peers=peers,
            staging=leaving,
            digester=digester,
            limits=limits,
            clock=clock,
        )

    async def __aenter__(self) -> Self:
        self._scope.spawn(self._reap(), name="transfer reaper")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Links first, so that peers hear of it; then whatever still runs."""
        await self._links.close()
        await self._inlets.close()
        await self._scope.close()

    def start(self, transfer: TransferId, request: RequestId, destination: WorkerRef) -> OutboundTransfer:
        """A transfer of `request`'s pages into a reservation at `destination`. Nothing has happened yet."""
        ref = TransferRef(
            transfer=transfer, request=request, sender_epoch=self.me.epoch, receiver_epoch=destination.epoch
        )
        return self._start(ref, destination)

    def takes_layers(self, destination: WorkerRef) -> bool:
        """Whether runs of some layers may be shipped there. False until a transfer has opened a link to it."""
        return self._links.takes_layers(destination)

    def keep(self, source: PageSource) -> None:
        """Pages of `source` can be fetched from now on. Once, before the endpoint serves."""
        self._fetches.serve(source)

    def mint_ticket(self, request: RequestId, *, num_pages: int, lease_s: float) -> Ticket:
        """For pages that the page source retains. Raises Refused."""
        return self._tickets.mint(request, num_pages=num_pages, lease_s=lease_s)

    def withdraw_ticket(self, request: RequestId) -> None:
        """The pages are gone before their lease ended. Idempotent."""
        self._tickets.withdraw(request)

    async def pull(
        self, ticket: Ticket, transfer: TransferId, request: RequestId, *, held_pages: int, context_digest: bytes
    ) -> int:
        """Has the ticket's pages pushed into a transfer that `inbound` expects; how many will come.

        Heard twice it is one push, so an answer that was lost is asked for again. Raises what the holder raised, or
        Unavailable, DeadlineExceeded.
        """
        holder = ticket.holder
        ref = TransferRef(transfer=transfer, request=request, sender_epoch=holder.epoch, receiver_epoch=self.me.epoch)
        fetch = Fetch(
            ticket=ticket, transfer=ref, receiver=self.me, held_pages=held_pages, context_digest=context_digest
        )
        peer, timeout_s = self._peers.at(holder), self.limits.control_timeout_s
        for _ in range(self.limits.control_tries - 1):
            with suppress(DeadlineExceeded):
                return await peer.fetch(fetch, timeout_s=timeout_s)
        return await peer.fetch(fetch, timeout_s=timeout_s)

    async def drop_peer(self, worker: WorkerId, why: str) -> None:
        """Ends both directions with this worker; its transfers fail now. Other pairs notice nothing."""
        await self._links.drop_peer(worker, why)
        await self._inlets.drop_peer(worker, why)

    async def meet(self, pair: Pair, meet: Meet) -> Met:
        return await self._inlets.meet(pair, meet)

    async def put(self, pair: Pair, key: str, value: bytes) -> None:
        await self._inlets.at(pair).store.put(key, value)

    async def get(self, pair: Pair, key: str, wait_s: float) -> bytes | None:
        return await self._inlets.at(pair).store.get(key, wait_s=wait_s)

    async def leave(self, pair: Pair, reason: str) -> None:
        await self._inlets.shut(pair, f"the sender left: {reason}")

    async def offer(self, offer: Offer) -> None:
        await self._reception.offer(offer)

    async def outcome(self, transfer: TransferRef, wait_s: float, abort: Reason | None) -> Outcome:
        if abort is not None:
            self.inbound.abort(transfer, abort)
        return await self.inbound.wait_outcome(transfer, min(wait_s, self.limits.idle_timeout_s))

    async def fetch(self, fetch: Fetch) -> int:
        return await self._fetches.fetch(fetch)

    async def probe(self, target: WorkerRef, num_bytes: int) -> ProbeReport:
        return await self._prober.probe(target, num_bytes)

    def snapshot(self) -> TransferSnapshot:
        return TransferSnapshot(
            channels=self._channels.names,
            sent=self._sent.snapshot(),
            received=self._received.snapshot(),
            links=len(self._links),
            inlets=len(self._inlets),
            links_over=self._links.channels(),
            inlets_over=self._inlets.channels(),
            expected=len(self.inbound),
            lent_arrivals=self.inbound.num_lent,
            free_staging=self._staging.num_free,
            background_tasks=len(self._scope),
        )

    def _start(self, ref: TransferRef, destination: WorkerRef) -> OutboundTransfer:
        return OutboundTransfer(
            ref,
            destination,
            layout=self._layout,
            links=self._links,
            peers=self._peers,
            digester=self._digester,
            limits=self.limits,
            counters=self._sent,
            scope=self._scope,
            clock=self._clock,
        )

    async def _reap(self) -> None:
        """Leases end on a timer of their own, never inside the path that would need what they hold."""
        while True:
            await asyncio.sleep(REAP_EVERY_S)
            self.inbound.expire()
            self._fetches.expire()
