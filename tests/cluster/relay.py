"""A gRPC forwarder between real processes: it repeats, delays, reorders and rewrites messages without reading them."""

import asyncio
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc

from common.observe.tracing.context import TRACEPARENT
from common.rpc.options import Options, Surface, channel_options, server_options

Rewrite = Callable[[str, bytes], Awaitable[bytes]]
STREAMS = frozenset({"Subscribe"})


@dataclass(slots=True)
class Weather:
    """What happens to unary messages, drawn per message. `late_s` is more than any caller waits."""

    chance: random.Random
    duplicate: float = 0.0
    delay: float = 0.0
    max_delay_s: float = 0.15
    late: float = 0.0
    late_s: float = 5.0
    spared: frozenset[str] = frozenset({"GetStatus"})


class GrpcRelay:
    """Forwards every call on `port` to `target_port`. Writer: the test's event loop."""

    def __init__(self, port: int, target_port: int, *, weather: Weather, options: Options = ()) -> None:
        self.weather = weather
        self.rewrite_request: Rewrite = _unchanged
        self.rewrite_answer: Rewrite = _unchanged
        self.happened: Counter[str] = Counter()
        self.traced: set[tuple[str, str]] = set()
        """Methods of unary calls, and the `traceparent` that they came with."""
        self._server = grpc.aio.server(options=[*server_options(Surface.INTERNAL), *options])
        self._server.add_generic_rpc_handlers((_Handlers(self),))
        self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._target = f"127.0.0.1:{target_port}"
        self._channel: grpc.aio.Channel | None = None
        self._late: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        self._channel = grpc.aio.insecure_channel(self._target, options=list(channel_options(Surface.INTERNAL)))
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)
        for task in self._late:
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)
        assert self._channel is not None
        await self._channel.close(grace=None)

    async def settle(self) -> None:
        """Until every late message was delivered."""
        await asyncio.gather(*self._late, return_exceptions=True)

    async def forward(self, method: str, request: bytes, context: Any) -> bytes:
        name = method.rsplit("/", 1)[1]
        self.traced |= {(name, value) for key, value in context.invocation_metadata() if key == TRACEPARENT}
        request = await self.rewrite_request(name, request)
        fate = self._fate(name)
        if fate:
            self.happened[fate] += 1
        if fate == "delay":
            await asyncio.sleep(self.weather.chance.uniform(0.0, self.weather.max_delay_s))
        if fate == "late":
            late = asyncio.create_task(self._deliver_late(method, request))
            self._late.add(late)
            late.add_done_callback(self._late.discard)
            await asyncio.sleep(self.weather.late_s)  # the caller gives up before
            await context.abort(grpc.StatusCode.UNAVAILABLE, "late")
        try:
            if fate == "duplicate":
                await self._call(method, request, context)
            return await self.rewrite_answer(name, await self._call(method, request, context))
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))
            raise AssertionError("abort raises") from error

    async def forward_stream(self, method: str, request: bytes, context: Any) -> AsyncIterator[bytes]:
        assert self._channel is not None
        open_stream: Any = self._channel.unary_stream(method)
        call = open_stream(request, metadata=_metadata(context))
        try:
            async for message in call:
                yield message
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))
        finally:
            call.cancel()

    def _fate(self, name: str) -> str:
        weather = self.weather
        if name in weather.spared:
            return ""
        drawn = weather.chance.random()
        for fate, share in (("duplicate", weather.duplicate), ("delay", weather.delay), ("late", weather.late)):
            if drawn < share:
                return fate
            drawn -= share
        return ""

    async def _call(self, method: str, request: bytes, context: Any) -> bytes:
        assert self._channel is not None
        call: Any = self._channel.unary_unary(method)
        answer: bytes = await call(request, metadata=_metadata(context), timeout=context.time_remaining())
        return answer

    async def _deliver_late(self, method: str, request: bytes) -> None:
        assert self._channel is not None
        await asyncio.sleep(self.weather.late_s)
        try:
            call: Any = self._channel.unary_unary(method)
            await call(request, timeout=2.0)
        except grpc.aio.AioRpcError as error:
            self.happened[f"late refused: {error.code().name}"] += 1
        else:
            self.happened["late taken"] += 1


class AddressSwap:
    """Rewrites the data plane's socket addresses in Rendezvous messages, so that its bytes pass a forwarder.

    Gloo lets the end whose address sorts last connect. The sender's becomes the forwarder's, which sorts first; the
    receiver's becomes one that sorts last, where nobody listens and nobody connects.
    """

    LAST_PORT = 0xFFFF
    _ADDRESS = re.compile(rb"\x02\x00(..)\x7f\x00\x00\x01", re.DOTALL)

    def __init__(self, forwarded: Callable[[int], Awaitable[int]]) -> None:
        self._forwarded = forwarded

    async def sender(self, name: str, message: bytes) -> bytes:
        """A request: what the sender puts in."""
        found = self._ADDRESS.search(message) if name == "Rendezvous" else None
        if found is None:
            return message
        return self._swapped(message, found, await self._forwarded(int.from_bytes(found[1], "big")))

    async def receiver(self, name: str, message: bytes) -> bytes:
        """An answer: what the sender gets of the receiver's."""
        found = self._ADDRESS.search(message) if name == "Rendezvous" else None
        return message if found is None else self._swapped(message, found, self.LAST_PORT)

    @staticmethod
    def _swapped(message: bytes, found: "re.Match[bytes]", port: int) -> bytes:
        return message[: found.start(1)] + port.to_bytes(2, "big") + message[found.end(1) :]


class _Handlers(grpc.GenericRpcHandler):
    """Bytes in, bytes out, for any method."""

    def __init__(self, relay: GrpcRelay) -> None:
        self._relay = relay

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        method = details.method

        async def unary(request: bytes, context: Any) -> bytes:
            return await self._relay.forward(method, request, context)

        async def streaming(request: bytes, context: Any) -> AsyncIterator[bytes]:
            async for message in self._relay.forward_stream(method, request, context):
                yield message

        if method.rsplit("/", 1)[1] in STREAMS:
            return grpc.unary_stream_rpc_method_handler(streaming)
        return grpc.unary_unary_rpc_method_handler(unary)


def _metadata(context: Any) -> tuple[tuple[str, str | bytes], ...]:
    """What the caller said beside its message, without what belongs to its own connection."""
    return tuple((key, value) for key, value in context.invocation_metadata() if not key.startswith(("grpc-", "user-")))


async def _unchanged(_name: str, message: bytes) -> bytes:
    return message
