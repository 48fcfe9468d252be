"""The sending end of a pair: one live channel, its digest key and its frame numbers.

    LIVE --(a frame or its accept fails; the peer closes; eviction; a new epoch)--> DEAD

A dead link is never mended. A frame whose offer may have been accepted is sent, or the link dies.

The next frame is announced while one is carried:

    WAITING --a place, then its turn--> ASKED --accepted--> ACCEPTED --its turn--> CARRIED --> over, and its place free
       |                                  |                    |                      |
       '--the link is dead: LinkGone      |                    '----------------------'--it fails: the link dies
                                          |--refused: its number goes to the next, and it may be asked again
                                          '--no answer, or the ends disagree: the link dies

* One frame is ASKED at a time: numbers are given out in the order of the calls, a refusal gives its number back, and
  the receiver hears them without gaps. A repeated question is the same words; the receiver knows its duplicates.
* One frame is CARRIED at a time, in the order of the numbers. At most `max_announced` have a place.
* With the link every frame dies that was accepted: its bytes were promised to this pair. One that was not is offered on
  the next link, if nothing else of its transfer was accepted.
"""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.core.aftermath import sever
from common.core.clock import Clock
from common.core.errors import BatonError, DeadlineExceeded, Reason, Refused, TransferFailed, Unavailable
from common.kv.digest import DigestKey
from common.kv.span import Span
from common.transfer.channel import Channel
from common.transfer.counters import TransferCounters
from common.transfer.device import Slot
from common.transfer.dock import Dock
from common.transfer.limits import TransferLimits
from common.transfer.messages import Finale, Offer, PageRun, Pair, TransferRef
from common.transfer.outlet import Outlet
from common.transfer.peer import Peer
from common.transfer.scope import TaskScope, outlast, wait_over

if TYPE_CHECKING:
    from common.transfer.lane import Lane

BREAKING = (Reason.CHANNEL_BROKEN, Reason.TRANSFER_TIMEOUT)

MAX_FRAMES = 1 << 30
"""Derived: gloo's tag is a signed 32-bit number. A link that has used them up is replaced."""


@dataclass(kw_only=True)
class LinkGone(TransferFailed):
    """The link was dead, or unknown to the peer, before this run was accepted: it may be offered again on a new one."""

    reason: Reason = Reason.CHANNEL_BROKEN


class Link:
    """Writer: the event loop. `users` counts transfers that hold it: a link in use is not evicted."""

    def __init__(
        self,
        pair: Pair,
        *,
        peer: Peer,
        channel: Channel,
        digest_key: DigestKey,
        max_run_bytes: int,
        takes_layers: bool,
        limits: TransferLimits,
        counters: TransferCounters,
        scope: TaskScope,
        clock: Clock,
        dock: Dock | None = None,
    ) -> None:
        self.lane: Lane | None = None
        """For whoever gathers pages for this receiver. Set by whoever opened it."""
        self.pair = pair
        self.digest_key = digest_key
        self.max_run_bytes = max_run_bytes
        self.takes_layers = takes_layers
        """Whether the receiver understands runs of some layers."""
        self.passed_over = ""
        """Why no better channel is used, readable. Set by whoever opened it."""
        self.users = 0
        self.used_at = clock.monotonic()
        self.is_live = True
        self._peer = peer
        self._channel = channel
        self._outlet = Outlet(channel, dock)
        self._limits = limits
        self._counters = counters
        self._scope = scope
        self._clock = clock
        self._places = asyncio.Semaphore(limits.max_announced)
        self._asking = asyncio.Lock()
        self._carrying = asyncio.Lock()
        self._next_frame = 0

    @property
    def is_worn(self) -> bool:
        """No frame numbers left."""
        return self._next_frame >= MAX_FRAMES

    async def carry(
        self,
        transfer: TransferRef | None,
        run: PageRun,
        data: Span,
        *,
        digests: bytes,
    ) -> float:
        """Offers one run, which is not the last, and sends its bytes; seconds on the data plane.

        Returns or raises only when `data` is no longer read. Raises what the receiver answered (the link lives on), or
        TransferFailed when the link is dead.
        """
        return await outlast(await self.announce(transfer, run, data, digests=digests))

    async def announce(
        self,
        transfer: TransferRef | None,
        run: PageRun,
        data: Span,
        *,
        digests: bytes,
        finale: Finale | None = None,
    ) -> asyncio.Task[float]:
        """Offers one run, in the order of the calls; what is returned once it is accepted sends it, in its turn.

        `data` is read until that task is over, or until this raises, as `carry` does.
        """
        accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        work = self._through(transfer, run, data, digests, finale, accepted)
        frame = self._scope.start(work, name=f"carry {self.pair} {run}")
        either: set[asyncio.Future[Any]] = {accepted, frame}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)  # bounded: every wait of `frame` is
        except asyncio.CancelledError:
            await wait_over(frame)
            raise
        try:
            if not accepted.done():
                frame.result()  # raises: it was over before it was accepted
            return frame
        finally:
            del frame, either  # see `outlast`

    def lend_slot(self, num_bytes: int) -> Slot | None:
        """See SlotChannel. None where frames are not made at the other end, or none now. Any thread."""
        return self._outlet.lend_slot(num_bytes) if self.is_live else None

    async def kill(self, reason: str) -> None:
        """Ends the link and tells the peer, as far as it listens. Idempotent."""
        if not self.is_live:
            return
        self.is_live = False
        if self.lane is not None:
            self.lane.close()
        self._scope.spawn(self._leave(reason), name=f"leave {self.pair}")
        await self._channel.close()

    async def _through(
        self,
        transfer: TransferRef | None,
        run: PageRun,
        data: Span,
        digests: bytes,
        finale: Finale | None,
        accepted: "asyncio.Future[None]",
    ) -> float:
        """A frame's way: see the drawing."""
        async with self._places:
            try:
                async with self._asking:
                    self._check_live()
                    offer = Offer(
                        pair=self.pair,
                        transfer=transfer,
                        frame=self._next_frame,
                        run=run,
                        num_bytes=len(data),
                        digests=digests,
                        finale=finale,
                    )
                    await self._ask(offer)
                    accepted.set_result(None)
                    if run.num_pages == 0:
                        return 0.0
                    self._next_frame += 1
                async with self._carrying:
                    return await self._send(offer, data)
            except BatonError as error:
                sever(error)
                if isinstance(error, TransferFailed) and error.reason in BREAKING:
                    await self.kill(error.message)
                raise

    async def _send(self, offer: Offer, data: Span) -> float:
        started = self._clock.monotonic()
        await self._outlet.send(offer.frame, data, timeout_s=self._limits.frame_s(offer.num_bytes))
        self.used_at = self._clock.monotonic()
        seconds = self.used_at - started
        self._counters.of(self.pair.channel).moved(offer.run.num_pages, offer.num_bytes, seconds)
        return seconds

    async def _ask(self, offer: Offer) -> None:
        """Until accepted. A lost answer is asked for again, unchanged: the receiver knows its duplicates."""
        unheard = refused = 0
        while True:
            try:
                await self._peer.offer(offer, timeout_s=self._limits.offer_s)
                return
            except Refused as error:
                # Definite, and the frame is not used up: the receiver's staging is full until something lands.
                refused += 1
                if refused >= self._limits.staging_tries:
                    raise
                await asyncio.sleep(min(error.retry_after_s or 0.05, 1.0))
            except (Unavailable, DeadlineExceeded) as error:
                unheard += 1
                self._counters.incidents["offer_retry"] += 1
                if unheard >= self._limits.control_tries:
                    message = f"{self.pair}: no answer to frame {offer.frame} after {unheard} tries: {error}"
                    raise TransferFailed(message=message, reason=Reason.CHANNEL_BROKEN) from error
            except BatonError as error:
                if error.reason is not Reason.CHANNEL_BROKEN:
                    raise
                # An answer that was lost may have been an accept: only a first answer is sure to be a refusal.
                gone = TransferFailed if unheard else LinkGone
                raise gone(message=error.message, reason=Reason.CHANNEL_BROKEN) from error

    async def _leave(self, reason: str) -> None:
        try:
            await self._peer.leave(self.pair, reason, timeout_s=self._limits.control_timeout_s)
        except BatonError:
            # The peer is away or has forgotten the pair: its own deadlines end its side.
            self._counters.incidents["leave_unheard"] += 1

    def _check_live(self) -> None:
        if not self.is_live:
            raise LinkGone(message=f"{self.pair} is dead")
