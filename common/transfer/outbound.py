"""The sending side of one transfer.

    PLANNED --first run--> SHIPPING --finale accepted--> WAITING --receiver's word--> DONE
       any but a terminal state --error, abort--> FAILED        --deadline--> EXPIRED

How shipping uses it:

    transfer = endpoint.start(transfer_id, request, destination)
    await transfer.ship(run, room.view[:num_bytes])        # as pages become ready, in order; then the buffer is free
    await transfer.finish(finale, run, data)               # with the last run, or alone
    outcome = await transfer.wait_outcome(timeout_s)

Whatever happens there is exactly one terminal outcome, in `transfer.outcome`; after it every call raises its error.
"""

import asyncio
from collections.abc import Coroutine
from enum import StrEnum
from typing import Any, TypeVar

from common.core.clock import Clock
from common.core.errors import BatonError, DeadlineExceeded, Reason, TransferFailed, Unavailable
from common.core.ids import WorkerRef
from common.kv.digest import DIGEST_BYTES
from common.kv.layout import PageLayout
from common.kv.seal import Sealing
from common.kv.span import Span
from common.transfer.counters import TransferCounters
from common.transfer.digester import Digester
from common.transfer.lane import Lane
from common.transfer.limits import TransferLimits
from common.transfer.link import Link, LinkGone
from common.transfer.links import LinkTable
from common.transfer.messages import Finale, Outcome, OutcomeState, PageRun, TransferRef
from common.transfer.peer import Peers
from common.transfer.plan import digest_index, max_run_pages, split
from common.transfer.scope import TaskScope, outlast, wait_over

Result = TypeVar("Result")

RETRY_PAUSE_S = 0.1
"""Chosen: between two questions for an outcome when the receiver cannot be reached."""


class OutboundState(StrEnum):
    """See the drawing above."""

    PLANNED = "planned"
    SHIPPING = "shipping"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    EXPIRED = "expired"


class OutboundTransfer:
    """Writer: the event loop. Made by the endpoint; the task that ships owns it and must end it (finish or abort)."""

    def __init__(
        self,
        ref: TransferRef,
        destination: WorkerRef,
        *,
        layout: PageLayout,
        links: LinkTable,
        peers: Peers,
        digester: Digester,
        limits: TransferLimits,
        counters: TransferCounters,
        scope: TaskScope,
        clock: Clock,
    ) -> None:
        self.ref = ref
        self.state = OutboundState.PLANNED
        self.outcome = Outcome(state=OutcomeState.PENDING)
        self._destination = destination
        self._layout = layout
        self._links = links
        self._peers = peers
        self._digester = digester
        self._limits = limits
        self._counters = counters
        self._scope = scope
        self._clock = clock
        self._link: Link | None = None
        self._channel = ""
        self._has_started = False
        self._places = asyncio.Semaphore(limits.max_queued_runs)
        self._turn = asyncio.Lock()

    @property
    def max_run_bytes(self) -> int:
        """The receiver's largest frame; a longer run travels in pieces. Valid after `open`."""
        assert self._link is not None, f"{self.ref} is not open"
        return self._link.max_run_bytes

    @property
    def takes_layers(self) -> bool:
        """Whether runs may be of some layers. Valid after `open`, until the end; one incarnation's answer stays."""
        return self._link is not None and self._link.takes_layers

    @property
    def lane(self) -> Lane | None:
        """Where runs may be gathered, and under which key. None without a link."""
        return None if self._link is None else self._link.lane

    async def open(self) -> None:
        """Makes sure of a link to the destination; `ship` does it too. Idempotent. Raises as LinkTable.hold does."""
        self._check_running()
        if self._link is None:
            await self._guarded(self._hold_link())

    async def ship(self, run: PageRun, data: Span, sealing: Sealing | None = None) -> None:
        """Digests, offers and sends one run: `data` is exactly its pages' bytes, wherever they lie. Calls are served in
        order. `sealing`: its digests, where they were made with its gather.

        Returns or raises only when `data` is no longer read. Raises the transfer's failure.
        """
        await self._ship(run, data, sealing, None)

    async def finish(
        self, finale: Finale, run: PageRun | None = None, data: Span | None = None, sealing: Sealing | None = None
    ) -> None:
        """The last word: the finale, with the last run if there is one left."""
        run = run or PageRun(first_page=finale.total_pages, num_pages=0)
        await self._ship(run, data or memoryview(b""), sealing, finale)
        if self.state is OutboundState.SHIPPING:
            self.state = OutboundState.WAITING

    async def wait_outcome(self, timeout_s: float) -> Outcome:
        """The terminal outcome: the receiver's once it has one, EXPIRED when there is none after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self.outcome.is_terminal:
                    await self._ask()
        except TimeoutError:
            message = f"{self.ref}: no outcome after {timeout_s} s"
            self._end(Outcome(state=OutcomeState.EXPIRED, reason=Reason.TRANSFER_TIMEOUT, message=message))
            self._tell(Reason.TRANSFER_TIMEOUT)
        return self.outcome

    def abort(self, reason: Reason, message: str = "") -> None:
        """Ends it as FAILED and tells the receiver. Bytes whose accept is on its way are still sent. Idempotent."""
        if self._end(Outcome(state=OutcomeState.FAILED, reason=reason, message=message or f"{self.ref} aborted")):
            self._tell(reason)

    async def _ship(self, run: PageRun, data: Span, sealing: Sealing | None, finale: Finale | None) -> None:
        expected = run.num_pages * self._layout.part_bytes(run.layers)
        assert len(data) == expected, f"{self.ref} {run}: {len(data)} bytes, not {expected}"
        async with self._places:
            await self.open()
            await self._guarded(self._ship_in_turn(run, data, sealing, finale))
        self._check_unfailed()

    async def _ship_in_turn(self, run: PageRun, data: Span, sealing: Sealing | None, finale: Finale | None) -> None:
        """The digests are made while earlier runs travel; offers keep the order of the calls."""
        assert self._link is not None
        link, frames = self._link, list[asyncio.Task[float]]()
        digesting = self._scope.start(self._digest(run, data, link, sealing), name=f"digest {self.ref} {run}")
        try:
            async with self._turn:
                self._check_running()
                digests = await outlast(digesting)
                try:
                    await self._announce(link, run, data, digests, finale, frames)
                except LinkGone:
                    # It ended while idle. Nothing of this transfer is at the receiver: one new link, one more try.
                    if self._has_started:
                        raise
                    link = await self._reopen()
                    await self._announce(link, run, data, await self._digest(run, data, link, sealing), finale, frames)
            while frames:
                await outlast(frames.pop(0))
        finally:
            await wait_over(digesting, *frames)
            frames.clear()
            del digesting  # see `outlast`

    async def _announce(
        self,
        link: Link,
        run: PageRun,
        data: Span,
        digests: bytes,
        finale: Finale | None,
        frames: list[asyncio.Task[float]],
    ) -> None:
        """In as many pieces as the receiver's staging buffers ask for; the finale goes with the last. What was accepted
        is added to `frames`."""
        size = self._layout.part_bytes(run.layers)
        if run.layers is not None and not link.takes_layers:
            message = f"{self.ref}: {link.pair.receiver.worker} takes whole pages, not {run}"
            raise TransferFailed(message=message, reason=Reason.LAYOUT_MISMATCH)
        for piece in split(run, max_run_pages(link.max_run_bytes, size)) or (run,):
            first, end = piece.first_page - run.first_page, piece.end - run.first_page
            last = finale if piece.end == run.end else None
            part = digests[first * DIGEST_BYTES : end * DIGEST_BYTES]
            frames.append(await self._announce_piece(link, piece, data[first * size : end * size], part, last))

    async def _announce_piece(
        self, link: Link, run: PageRun, data: Span, digests: bytes, finale: Finale | None
    ) -> asyncio.Task[float]:
        try:
            frame = await link.announce(self.ref, run, data, digests=digests, finale=finale)
        except TransferFailed as error:
            # All but a refusal may have begun at the receiver, which counts it then.
            if not isinstance(error, LinkGone) and error.reason in (Reason.CHANNEL_BROKEN, Reason.TRANSFER_TIMEOUT):
                self._start()
            raise
        self._start()
        return frame

    async def _digest(self, run: PageRun, data: Span, link: Link, sealing: Sealing | None) -> bytes:
        """A gather that was sealed for another pair, whose link ended meanwhile, is digested as it lies."""
        if sealing is not None and sealing.key is link.digest_key:
            return await self._digester.finish(sealing)
        size = self._layout.part_bytes(run.layers)
        return await self._digester.digest(data, size, link.digest_key, first_index=digest_index(run))

    async def _reopen(self) -> Link:
        self._check_running()  # aborted meanwhile, it has let go of the link
        assert self._link is not None
        self._links.let_go(self._link)
        self._link = None
        self._counters.incidents["link_reopened"] += 1
        return await self._hold_link()

    async def _hold_link(self) -> Link:
        link = await self._links.hold(self._destination)
        if self.outcome.is_terminal or self._link is not None:
            self._links.let_go(link)
            self._check_running()
            assert self._link is not None
            return self._link
        self._link, self._channel = link, link.pair.channel
        return link

    async def _ask(self) -> None:
        """One long poll. The receiver out of reach is not an answer: the caller's deadline decides."""
        wait_s = self._limits.outcome_wait_s
        timeout_s = wait_s + self._limits.control_timeout_s
        try:
            peer = self._peers.at(self._destination)
            answer = await peer.outcome(self.ref, wait_s=wait_s, abort=None, timeout_s=timeout_s)
        except (Unavailable, DeadlineExceeded):
            await asyncio.sleep(RETRY_PAUSE_S)
        except BatonError as error:
            self._end(Outcome(state=OutcomeState.FAILED, reason=error.reason, message=error.message))
        else:
            if answer.is_terminal:
                self._end(answer)

    def _start(self) -> None:
        """The receiver has begun, as far as can be known: both sides count this transfer."""
        if self._has_started:
            return
        self._has_started = True
        counters = self._counters.of(self._channel)
        counters.started += 1
        if self.outcome.is_terminal:  # aborted while the first run was on its way
            counters.end(self.outcome)
        else:
            self.state = OutboundState.SHIPPING

    async def _guarded(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Any failure of `work` is the transfer's."""
        try:
            return await work
        except BatonError as error:
            self.abort(error.reason, error.message)
            raise
        except asyncio.CancelledError:
            self.abort(Reason.CANCELLED, f"{self.ref}: the shipping task was cancelled")
            raise

    def _end(self, outcome: Outcome) -> bool:
        """The one place where a transfer ends. False when it had ended before."""
        if self.outcome.is_terminal:
            return False
        self.outcome = outcome
        self.state = OutboundState(outcome.state.value)
        if self._has_started:
            self._counters.of(self._channel).end(outcome)
        if self._link is not None:
            self._links.let_go(self._link)
            self._link = None
        return True

    def _tell(self, reason: Reason) -> None:
        """The receiver hears of it now, not at its own deadline; from who leaves, by the end of the pair."""
        if self._has_started and not self._scope.is_closed:
            self._scope.spawn(self._tell_once(reason), name=f"abort {self.ref}")

    async def _tell_once(self, reason: Reason) -> None:
        try:
            peer = self._peers.at(self._destination)
            await peer.outcome(self.ref, wait_s=0.0, abort=reason, timeout_s=self._limits.control_timeout_s)
        except BatonError:
            # Away, or past it: the receiver's own deadline ends its side.
            self._counters.incidents["abort_unheard"] += 1

    def _check_running(self) -> None:
        self._check_unfailed()
        assert self.state in (OutboundState.PLANNED, OutboundState.SHIPPING), f"{self.ref} is {self.state} already"

    def _check_unfailed(self) -> None:
        if self.outcome.is_terminal and self.state is not OutboundState.DONE:
            raise TransferFailed(message=self.outcome.message, reason=self.outcome.reason or Reason.TRANSFER_FAILED)
