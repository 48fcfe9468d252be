"""The receiving end of a pair: its store, its channel once open, and the frames it has accepted.

OPENING --channel open--> LIVE --(a frame fails; the peer leaves; superseded; eviction)--> CLOSED
"""

import asyncio
from collections import OrderedDict

from common.core.errors import BatonError, Reason, TransferFailed
from common.kv.digest import DigestKey
from common.observe.logging import get_log
from common.transfer.channel import Channel, ChannelFactory, Side
from common.transfer.messages import Met, Offer, Pair
from common.transfer.pair_thread import first_line
from common.transfer.rendezvous import PairStore
from common.transfer.scope import TaskScope

_LOG = get_log("transfer")

MAX_REMEMBERED_FRAMES = 64
"""Chosen: a sender asks for one frame at a time, so a duplicate older than this is no retry."""


class Inlet:
    """Writer: the event loop."""

    def __init__(self, pair: Pair, met: Met, *, factory: ChannelFactory, scope: TaskScope, used_at: float) -> None:
        self.pair = pair
        self.met = met
        self.digest_key = DigestKey(met.digest_key)
        self.store = PairStore()
        self.used_at = used_at
        self.pending = 0
        """Frames accepted and not yet handed over."""
        self.coming: dict[int, int] = {}
        """Bytes of the frames that were accepted and whose bytes are not here: in the order of their numbers."""
        self.is_closed = False
        self._factory = factory
        self._scope = scope
        self._opening: asyncio.Task[Channel] | None = None
        self._frames: OrderedDict[int, tuple[Offer, asyncio.Future[None]]] = OrderedDict()
        self._next_frame = 0

    def open(self, *, timeout_s: float) -> None:
        """Begins to open the channel; the sender does the same after it has met us."""
        self._opening = self._scope.start(self._open(timeout_s), name=f"accept {self.pair}")

    async def channel(self) -> Channel:
        """The open channel. Raises TransferFailed when it did not open or is closed."""
        if self.is_closed or self._opening is None:
            raise self._gone()
        await asyncio.wait({self._opening})  # bounded by the timeout of `open`
        if self.is_closed or self._opening.cancelled() or self._opening.exception() is not None:
            raise self._gone()
        return self._opening.result()

    def duplicate_of(self, offer: Offer) -> asyncio.Future[None] | None:
        """Where the same offer stands if it was heard before; None for the next new frame.

        Raises TransferFailed (CHANNEL_BROKEN) for any other frame: the ends disagree, and the sender ends the pair.
        """
        known = self._frames.get(offer.frame)
        if known is not None and known[0] == offer:
            return known[1]
        is_busy = any(not accepted.done() for _, accepted in self._frames.values())
        if offer.frame != self._next_frame or is_busy:
            message = f"{self.pair}: frame {offer.frame} is not the next, {self._next_frame}"
            raise TransferFailed(message=message, reason=Reason.CHANNEL_BROKEN)
        return None

    def begin(self, offer: Offer) -> asyncio.Future[None]:
        """Takes the frame. The future is resolved when the receive is posted, or carries the refusal."""
        accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._frames[offer.frame] = (offer, accepted)
        self._next_frame += 1
        if len(self._frames) > MAX_REMEMBERED_FRAMES:
            self._frames.popitem(last=False)
        return accepted

    def refuse(self, offer: Offer, error: BatonError) -> None:
        """Gives the frame back: nothing was posted, the sender uses its number again."""
        assert offer.frame == self._next_frame - 1, f"{self.pair}: frame {offer.frame} is not the last"
        _, accepted = self._frames.pop(offer.frame)
        self._next_frame -= 1
        accepted.set_exception(error)
        accepted.exception()  # retrieved: a duplicate may or may not be waiting for it

    def before(self, frame: int) -> list[int]:
        """Bytes of the frames that still come before this one."""
        return [num_bytes for earlier, num_bytes in self.coming.items() if earlier < frame]

    async def close(self) -> None:
        """Closes channel and store. Idempotent. A waiting receive ends at its own deadline or with the connection."""
        if self.is_closed:
            return
        self.is_closed = True
        await self.store.close()
        if self._opening is None:
            return
        self._opening.cancel()
        await asyncio.wait({self._opening})  # bounded: cancelled just above
        if not self._opening.cancelled() and self._opening.exception() is None:
            await self._opening.result().close()

    async def _open(self, timeout_s: float) -> Channel:
        try:
            return await self._factory.open(self.pair, Side.RECEIVER, self.store, timeout_s=timeout_s)
        except Exception as error:
            # The sender waits in the store: it hears of it now, not at its deadline, and takes another channel.
            why = f"{self.pair}: channel {self.pair.channel} did not open at the receiver: {first_line(error)}"
            _LOG.warning("channel_not_opened", pair=str(self.pair), channel=self.pair.channel, why=why)
            await self.store.close(why)
            raise

    def _gone(self) -> TransferFailed:
        return TransferFailed(message=f"{self.pair} is not open here", reason=Reason.CHANNEL_BROKEN)
