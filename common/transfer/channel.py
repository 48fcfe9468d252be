"""The data plane between two workers: raw bytes of sizes agreed beforehand, nothing else.

A channel has one direction and belongs to one pair. Frames travel in the order of their numbers. Any failure, a missed
deadline included, kills the channel for good: later calls raise at once, and the pair is rebuilt under a new nonce.
"""

from enum import StrEnum
from typing import Protocol, runtime_checkable

from common.kv.span import Span
from common.transfer.messages import HostFacts, Pair
from common.transfer.rendezvous import RendezvousStore


class Side(StrEnum):
    """Which end of a pair this process is."""

    SENDER = "sender"
    RECEIVER = "receiver"


class Channel(Protocol):
    """One end. All three raise TransferFailed (CHANNEL_BROKEN or TRANSFER_TIMEOUT) and no other error of their own.

    `send` and `receive` return or raise only once the channel no longer touches the buffer, even when the caller is
    cancelled: the wait is bounded by `timeout_s`. Both ends must name the same number of bytes for a frame.
    """

    async def send(self, frame: int, data: memoryview, *, timeout_s: float) -> None: ...

    async def receive(self, frame: int, out: memoryview, *, timeout_s: float) -> None: ...

    async def close(self) -> None:
        """Frees everything; the other end's pending and later calls fail. Idempotent."""
        ...


class Lent(Protocol):
    """Bytes in somebody's buffer, to be given back once: a staging buffer of ours, or memory that the sender wrote."""

    @property
    def view(self) -> Span:
        """The whole buffer, writable. Slice it to what travels."""
        ...

    def release(self) -> None: ...


class Berth(Lent, Protocol):
    """Room for one frame, held before its offer is accepted. On the event loop only."""

    async def receive(self, frame: int, num_bytes: int, *, timeout_s: float) -> None:
        """From here on `view` holds the frame. Raises as Channel.receive does."""
        ...


@runtime_checkable
class LendingChannel(Protocol):
    """A receiving end whose frames are read where they lie: no staging buffer of the receiver, no copy into it."""

    async def reserve(self, *, timeout_s: float) -> Berth:
        """Raises Refused while everything it can lend is lent."""
        ...


class ChannelFactory(Protocol):
    """One kind of channel. Both ends of a pair call `open`; they find each other through the pair's store.

    `open` raises TransferFailed; failed or cancelled, it leaves nothing open behind.
    """

    name: str
    max_pairs: int | None
    """Open pairs in one direction, where each costs so much that the room's own limit is too high; None elsewhere."""

    def misfit(self, there: HostFacts | None) -> str:
        """Why this channel cannot reach an end at `there`, readable; empty when it is worth a try."""
        ...

    async def open(self, pair: Pair, side: Side, store: RendezvousStore, *, timeout_s: float) -> Channel: ...
