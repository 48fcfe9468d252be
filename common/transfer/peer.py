"""KvService as one worker sees another: the same words whether they travel over gRPC, in memory or through a fault."""

from typing import Protocol

from common.core.errors import Reason
from common.core.ids import WorkerRef
from common.transfer.messages import Fetch, Meet, Met, Offer, Outcome, Pair, TransferRef


class Peer(Protocol):
    """Calls on one other incarnation. Every call raises the BatonError its handler raised, or Unavailable or
    DeadlineExceeded when it is not known whether the call arrived."""

    async def meet(self, pair: Pair, meet: Meet, *, timeout_s: float) -> Met: ...

    async def put(self, pair: Pair, key: str, value: bytes, *, timeout_s: float) -> None: ...

    async def get(self, pair: Pair, key: str, *, wait_s: float, timeout_s: float) -> bytes | None: ...

    async def leave(self, pair: Pair, reason: str, *, timeout_s: float) -> None: ...

    async def offer(self, offer: Offer, *, timeout_s: float) -> None: ...

    async def outcome(
        self, transfer: TransferRef, *, wait_s: float, abort: Reason | None, timeout_s: float
    ) -> Outcome: ...

    async def fetch(self, fetch: Fetch, *, timeout_s: float) -> int: ...


class Peers(Protocol):
    """Finds another worker's KvService. Cached per incarnation by the implementation."""

    def at(self, worker: WorkerRef) -> Peer: ...


class RemoteStore:
    """A pair's rendezvous store, seen from the sender: it lives at the receiver."""

    def __init__(self, peer: Peer, pair: Pair, *, control_timeout_s: float) -> None:
        self._peer = peer
        self._pair = pair
        self._control_timeout_s = control_timeout_s

    async def put(self, key: str, value: bytes) -> None:
        await self._peer.put(self._pair, key, value, timeout_s=self._control_timeout_s)

    async def get(self, key: str, *, wait_s: float) -> bytes | None:
        timeout_s = wait_s + self._control_timeout_s
        return await self._peer.get(self._pair, key, wait_s=wait_s, timeout_s=timeout_s)
