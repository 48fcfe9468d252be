"""Channels to peers. A peer is a worker id *and* an epoch: a restarted process at the same address is somebody else."""

from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

import grpc

from common.core.errors import Fenced, Reason
from common.core.ids import Epoch, WorkerId, WorkerRef
from common.observe.tracing.context import TRACEPARENT, current_trace
from common.rpc.bind import Tls, channel_credentials
from common.rpc.errors import translated
from common.rpc.identity import Caller
from common.rpc.options import SPREAD, Pings, Surface, channel_options

Q = TypeVar("Q")
A = TypeVar("A")

Connect = Callable[[str], grpc.aio.Channel]
"""Opens a channel to host:port. The simulation passes its in-memory one."""


def grpc_connect(
    surface: Surface, tls: Tls | None = None, *, pings: Pings | None = None, is_spread: bool = False
) -> Connect:
    """The real thing: lazy, so an address where nobody listens fails at the first call.

    `is_spread`: the address is a name, and every healthy server behind it gets its share of the calls.
    """
    options = [*channel_options(surface, pings), *(SPREAD if is_spread else ())]
    if tls is not None and tls.cluster:
        # Peers are dialled by addresses that no certificate can know: who must be there is known instead.
        served_by = Caller.WORKER if surface is Surface.INTERNAL else Caller.ROUTER
        options.append(("grpc.ssl_target_name_override", served_by.name_in(tls.cluster)))

    def connect(address: str) -> grpc.aio.Channel:
        if tls is None:
            return grpc.aio.insecure_channel(address, options=options)
        return grpc.aio.secure_channel(address, channel_credentials(tls.latest()), options=options)

    return connect


class Dialer:
    """One channel per live incarnation. Writer: the event loop's thread.

    A new epoch of a worker closes the old one's channel first, and its calls with it; the old epoch is refused from
    then on (Fenced). At most `max_channels` are open: over that, the one unused for longest is closed.
    """

    def __init__(self, connect: Connect, *, max_channels: int = 1024) -> None:
        self._connect = connect
        self._max_channels = max_channels
        self._open: OrderedDict[WorkerId, tuple[WorkerRef, grpc.aio.Channel]] = OrderedDict()
        self._dropped: OrderedDict[WorkerId, WorkerRef] = OrderedDict()
        self._retired: OrderedDict[tuple[WorkerId, Epoch], None] = OrderedDict()

    async def channel(self, peer: WorkerRef) -> grpc.aio.Channel:
        """The channel to exactly this incarnation. Raises Fenced if a later one was dialled before."""
        if (peer.worker, peer.epoch) in self._retired:
            raise Fenced(
                message=f"worker {peer.worker} epoch {peer.epoch} is over: a newer incarnation was dialled since",
                reason=Reason.STALE_EPOCH,
                facts={"worker": peer.worker},
            )
        known = self._open.get(peer.worker)
        if known is not None and known[0] == peer:
            self._open.move_to_end(peer.worker)
            return known[1]
        channel = self._connect(peer.address)
        self._open[peer.worker] = (peer, channel)
        self._open.move_to_end(peer.worker)
        before = self._dropped.pop(peer.worker, None) if known is None else known[0]
        if before is not None and before.epoch != peer.epoch:
            self._retire(before)
        if known is not None:
            await known[1].close(grace=None)
        while len(self._open) > self._max_channels:
            _, (ref, oldest) = self._open.popitem(last=False)
            self._note_dropped(ref)
            await oldest.close(grace=None)
        return channel

    async def drop(self, peer: WorkerRef) -> None:
        """Closes the channel to this incarnation, if open: it is suspected, or gone. Dialling again is allowed."""
        known = self._open.get(peer.worker)
        if known is not None and known[0].epoch == peer.epoch:
            del self._open[peer.worker]
            self._note_dropped(peer)
            await known[1].close(grace=None)

    async def close(self) -> None:
        """Closes every channel; calls that are still running are cancelled."""
        while self._open:
            _, (_, channel) = self._open.popitem()
            await channel.close(grace=None)

    def _note_dropped(self, peer: WorkerRef) -> None:
        """It may be dialled again, until another incarnation is: then a late word to this one may not unseat that."""
        self._dropped[peer.worker] = peer
        while len(self._dropped) > self._max_channels:
            self._dropped.popitem(last=False)

    def _retire(self, peer: WorkerRef) -> None:
        self._retired[(peer.worker, peer.epoch)] = None
        while len(self._retired) > 4 * self._max_channels:
            self._retired.popitem(last=False)


def trace_metadata() -> tuple[tuple[str, str], ...] | None:
    """What tells the peer for which span this task calls it."""
    trace = current_trace()
    return None if trace is None else ((TRACEPARENT, trace.header),)


async def call(method: "grpc.aio.UnaryUnaryMultiCallable[Q, A]", request: Q, *, peer: str, timeout_s: float) -> A:
    """One unary call of a stub's method. Raises the BatonError that the peer raised, or what the transport's failure
    means (fact origin=transport). `peer` names the other side in messages."""
    with translated(peer):
        return await method(request, timeout=max(timeout_s, 0.0), metadata=trace_metadata())


@asynccontextmanager
async def stream(
    method: "grpc.aio.UnaryStreamMultiCallable[Q, A]", request: Q, *, peer: str, timeout_s: float | None
) -> AsyncIterator[AsyncIterator[A]]:
    """A server stream, cancelled at the server when the block is left early. timeout_s None: as long as it lasts."""
    running = method(request, timeout=timeout_s, metadata=trace_metadata())

    async def responses() -> AsyncGenerator[A, None]:
        with translated(peer):
            async for response in running:
                yield response

    try:
        async with aclosing(responses()) as iterator:
            yield iterator
    finally:
        running.cancel()
