"""grpc.aio's channel and server, in memory. Generated stubs and `add_..._to_server` take them for the real ones.

Every message travels as bytes. Unary and server-streaming calls only: Baton has no other.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Self

import grpc

from common.rpc.client import Connect
from common.rpc.options import LIMITS, Surface
from common.rpc.server import MakeServer
from tests.sim.call import Call, ClientHalf, MemoryContext, Pairs
from tests.sim.network import Network

Serializer = Callable[[Any], bytes]
Deserializer = Callable[[bytes], Any]


def memory_connect(network: Network, process: str) -> Connect:
    """What `process` dials with: for a Dialer in place of `grpc_connect`."""
    return lambda address: MemoryChannel(network, process, address)


def memory_server(network: Network, process: str) -> MakeServer:
    """What `process` serves with: for `serve(make_server=...)`."""
    return lambda surface, interceptors: MemoryServer(network, process, surface, interceptors)  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class _Details(grpc.HandlerCallDetails):
    method: str
    invocation_metadata: Pairs


class MemoryChannel(grpc.aio.Channel):
    """A channel of one process to one address. Connects at the first call, and again after every failure."""

    def __init__(self, network: Network, process: str, address: str) -> None:
        self._network = network
        self._process = process
        self._address = address
        self._calls: dict[ClientHalf, None] = {}  # in order, so that runs repeat
        self._is_closed = False

    def unary_unary(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        return self._method(method, request_serializer, response_deserializer)

    def unary_stream(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        return self._method(method, request_serializer, response_deserializer)

    def stream_unary(self, method: str, *_args: Any, **_kwargs: Any) -> Any:
        return _refuse(method)

    def stream_stream(self, method: str, *_args: Any, **_kwargs: Any) -> Any:
        return _refuse(method)

    async def close(self, grace: float | None = None) -> None:
        self._is_closed = True
        for call in list(self._calls):
            call.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return grpc.ChannelConnectivity.SHUTDOWN if self._is_closed else grpc.ChannelConnectivity.IDLE

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        raise AssertionError("nothing in Baton waits for connectivity")

    async def channel_ready(self) -> None:
        raise AssertionError("nothing in Baton waits for connectivity")

    def _method(self, method: str, serializer: Serializer | None, deserializer: Deserializer | None) -> Any:
        def start(
            request: Any, *, timeout: float | None = None, metadata: Any = None, wait_for_ready: bool | None = None
        ) -> ClientHalf:
            assert not wait_for_ready, "calls in Baton fail fast: the router decides what is next"
            if self._is_closed:
                raise grpc.aio.UsageError("Channel is closed.")
            raw = serializer(request) if serializer is not None else request
            assert isinstance(raw, bytes)
            server = self._network.server_at(self._address)
            call = Call(
                self._network,
                client=self._process,
                server=server.process if server is not None else self._address,
                surface=server.surface if server is not None else Surface.INTERNAL,
                method=method,
                metadata=tuple(metadata or ()),
                timeout_s=timeout,
            )
            half = ClientHalf(call, deserializer)
            self._calls[half] = None
            half.add_done_callback(lambda done: self._calls.pop(done, None))
            if server is None:
                refused = f"{self._address}: connection refused"
                self._network.loop.call_later(0.0002, call.end_client, grpc.StatusCode.UNAVAILABLE, refused)
            elif timeout is None or timeout > 0:
                call.to_server(lambda: server.accept(call, raw))
            return half

        return start


class MemoryServer:
    """A server of one process. Interceptors wrap handlers as grpc.aio wraps them."""

    def __init__(
        self, network: Network, process: str, surface: Surface, interceptors: Sequence[grpc.aio.ServerInterceptor]
    ) -> None:
        self.process = process
        self._network = network
        self.surface = surface
        self._limits = LIMITS[surface]
        self._interceptors = tuple(interceptors)
        self._handlers: list[grpc.GenericRpcHandler] = []
        self._addresses: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_stopped = False

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._handlers.extend(handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:
        """The same handlers once more, in the form that the C core prefers. grpc.aio ignores it too."""

    def add_insecure_port(self, address: str) -> int:
        host, _, port = address.rpartition(":")
        bound = self._network.bind(host, int(port))
        self._addresses.append(f"{host}:{bound}")
        return bound

    def add_secure_port(self, address: str, credentials: object) -> int:
        return self.add_insecure_port(address)

    async def start(self) -> None:
        for address in self._addresses:
            self._network.listen(address, self)

    async def stop(self, grace: float | None) -> None:
        self._is_stopped = True
        for address in self._addresses:
            self._network.unlisten(address, self)
        if self._tasks and grace:
            await asyncio.wait(tuple(self._tasks), timeout=grace)
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        raise AssertionError("whoever serves in a simulation holds the server and stops it")

    def die(self) -> None:
        """The process was killed: handlers end without a word to anybody."""
        for task in tuple(self._tasks):
            task.cancel()

    def accept(self, call: Call, raw: bytes) -> None:
        """A request arrived."""
        client = call.client_half
        assert client is not None
        if client.done():
            return
        if self._is_stopped:
            gone = f"{self.process}: connection refused"
            call.to_client(lambda: call.end_client(grpc.StatusCode.UNAVAILABLE, gone))
            return
        handler = self._network.loop.create_task(self._handle(call, raw), name=f"{self.process} {call.method}")
        self._tasks.add(handler)
        handler.add_done_callback(self._tasks.discard)
        call.handle(handler)

    async def _handle(self, call: Call, raw: bytes) -> None:
        handler = await self._find(call)
        context = MemoryContext(call, handler.response_serializer if handler is not None else None)
        try:
            if handler is None:
                await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
            elif len(raw) > self._limits.max_message_bytes:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max")
            else:
                await _run(handler, raw, context)
        except grpc.aio.AbortError:
            pass  # the handler said how the call ends; finish tells it
        except asyncio.CancelledError:
            context.set_code(grpc.StatusCode.CANCELLED)
            raise
        except Exception as error:  # noqa: BLE001 - what grpc.aio does with a handler's exception
            context.set_code(grpc.StatusCode.UNKNOWN)
            context.set_details(f"Unexpected {type(error)}: {error}")
        finally:
            context.finish()

    async def _find(self, call: Call) -> grpc.RpcMethodHandler | None:
        async def find(details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
            found = (handler.service(details) for handler in self._handlers)
            return next((handler for handler in found if handler is not None), None)

        continuation: Any = find
        for interceptor in reversed(self._interceptors):
            continuation = _bound(interceptor, continuation)
        return await continuation(_Details(call.method, call.metadata))


def _bound(interceptor: grpc.aio.ServerInterceptor, continuation: Any) -> Any:
    async def intercept(details: grpc.HandlerCallDetails) -> Any:
        return await interceptor.intercept_service(continuation, details)

    return intercept


async def _run(handler: grpc.RpcMethodHandler, raw: bytes, context: MemoryContext) -> None:
    request = handler.request_deserializer(raw) if handler.request_deserializer is not None else raw
    if not handler.response_streaming:
        answer = await handler.unary_unary(request, context)
        if not context.is_aborted:
            await context.write(answer)
        return
    if handler.request_streaming:  # how an unknown method is answered: the stream of requests is this one
        responses = handler.stream_stream(_once(request), context)
    else:
        responses = handler.unary_stream(request, context)
    if asyncio.iscoroutine(responses):
        await responses
        return
    async for response in responses:
        await context.write(response)


async def _once(request: Any) -> AsyncIterator[Any]:
    yield request


def _refuse(method: str) -> Callable[..., NoReturn]:
    def start(*_args: Any, **_kwargs: Any) -> NoReturn:
        raise AssertionError(f"{method}: client streams have no place in the simulation")

    return start
