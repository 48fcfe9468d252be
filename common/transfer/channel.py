"""The data plane between two workers: raw bytes of sizes agreed beforehand, nothing else.

A channel has one direction and belongs to one pair. Frames travel in the order of their numbers. Any failure, a missed
deadline included, kills the channel for good: later calls raise at once, and the pair is rebuilt under a new nonce.
"""

from enum import StrEnum
from typing import Protocol

from common.transfer.messages import Pair
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


class ChannelFactory(Protocol):
    """One kind of channel. Both ends of a pair call `open`; they find each other through the pair's store.

    `open` raises TransferFailed; failed or cancelled, it leaves nothing open behind.
    """

    name: str

    async def open(self, pair: Pair, side: Side, store: RendezvousStore, *, timeout_s: float) -> Channel: ...
