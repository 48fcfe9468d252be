"""One call in memory: the half the client holds, and the half the handler sees. Between them, bytes over a Network."""

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from contextvars import Context
from typing import TYPE_CHECKING, Any

import grpc

from common.rpc.options import Surface
from tests.sim.network import Network

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Pairs = tuple[tuple[str, str | bytes], ...]

WINDOW = 16
"""Messages on their way or unread before `write` waits: stands for HTTP/2 flow control."""


class Call:
    """What both halves share. Ends exactly once at each half; what arrives after that is dropped."""

    def __init__(
        self,
        network: Network,
        *,
        client: str,
        server: str,
        surface: Surface,
        method: str,
        metadata: Pairs,
        timeout_s: float | None,
    ) -> None:
        self.network = network
        self.surface = surface
        self.ends = (client, server)
        self.method = method
        self.metadata = metadata
        self.deadline = None if timeout_s is None else network.loop.time() + timeout_s
        self.client_half: ClientHalf | None = None
        self.handler: asyncio.Task[Any] | None = None
        self.context: MemoryContext | None = None
        self._is_broken = False
        network.calls[self] = None
        network.watch_if_blocked(self)

    def to_server(self, action: Callable[[], None]) -> None:
        self.network.send(*self.ends, self._unless_broken(action))

    def to_client(self, action: Callable[[], None]) -> None:
        client, server = self.ends
        self.network.send(server, client, self._unless_broken(action))

    def _unless_broken(self, action: Callable[[], None]) -> Callable[[], None]:
        """What was on its way on a connection that broke never arrives."""
        return lambda: None if self._is_broken else action()

    def handle(self, handler: asyncio.Task[Any]) -> None:
        """The request reached its handler, which the server ends at the deadline by itself."""
        self.handler = handler
        if self.deadline is not None:
            timer = self.network.loop.call_at(self.deadline, self.end_server)
            handler.add_done_callback(lambda _: timer.cancel())

    def end_server(self) -> None:
        """Cancels the handler: its caller is gone."""
        if self.handler is not None and not self.handler.done():
            assert self.context is not None
            self.context.is_cancelled = True
            self.handler.cancel()
        self._forget()

    def end_client(self, code: grpc.StatusCode, details: str, trailing: Pairs = ()) -> None:
        if self.client_half is not None:
            self.client_half.finish(code, details, trailing)
        self._forget()

    def reset(self, dead: str) -> None:
        """One end was killed: the other sees it after the link's delay; the dead one's half just ends."""
        self._is_broken = True
        client, server = self.ends
        gone = f"{dead}: connection reset"
        if dead == client:
            self.network.loop.call_later(self.network.delay(client, server), self.end_server, context=Context())
            self.end_client(grpc.StatusCode.UNAVAILABLE, gone)
        else:
            self.end_server()
            delay_s = self.network.delay(server, client)
            self.network.loop.call_later(delay_s, self.end_client, grpc.StatusCode.UNAVAILABLE, gone, context=Context())

    def give_up(self) -> None:
        """Pings went unanswered: each end breaks the connection, a frozen one when it wakes."""
        self._is_broken = True
        client, server = self.ends
        self.network.at_process(server, self.end_server)
        self.network.at_process(client, lambda: self.end_client(grpc.StatusCode.UNAVAILABLE, f"{server}: ping timeout"))

    def _forget(self) -> None:
        self.network.calls.pop(self, None)


class ClientHalf:
    """What a stub's method returns: awaitable where the answer is one message, iterable where it is a stream."""

    def __init__(self, call: Call, deserializer: Callable[[bytes], Any] | None) -> None:
        self._call = call
        self._deserialize = deserializer or (lambda raw: raw)
        self._messages: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailing: Pairs = ()
        self._initial: Pairs = ()
        self._is_locally_cancelled = False
        self._callbacks: list[Callable[[Any], None]] = []
        self._on_read: Callable[[], None] = lambda: None
        call.client_half = self
        self._timer: asyncio.TimerHandle | None = None
        if call.deadline is not None:
            self._timer = call.network.loop.call_at(call.deadline, self._expire)

    # Arrivals

    def arrive(self, raw: bytes) -> None:
        if self._code is None:
            self._messages.append(raw)
            self._changed.set()

    def arrive_initial(self, metadata: Pairs) -> None:
        self._initial = metadata
        self._changed.set()

    def finish(self, code: grpc.StatusCode, details: str, trailing: Pairs = ()) -> None:
        if self._code is not None:
            return
        self._code, self._details, self._trailing = code, details, trailing
        if self._timer is not None:
            self._timer.cancel()
        self._changed.set()
        for callback in self._callbacks:
            self._call.network.loop.call_soon(callback, self)

    # What grpc.aio calls offer

    def cancel(self) -> bool:
        if self._code is not None:
            return False
        self._is_locally_cancelled = True
        self.finish(grpc.StatusCode.CANCELLED, "Locally cancelled by application!")
        self._call.to_server(self._call.end_server)
        return True

    def cancelled(self) -> bool:
        return self._is_locally_cancelled

    def done(self) -> bool:
        return self._code is not None

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        if self._code is not None:
            callback(self)
        else:
            self._callbacks.append(callback)

    def time_remaining(self) -> float | None:
        deadline = self._call.deadline
        return None if deadline is None else max(deadline - self._call.network.loop.time(), 0.0)

    async def code(self) -> grpc.StatusCode:
        await self._wait_finished()
        assert self._code is not None
        return self._code

    async def details(self) -> str:
        await self._wait_finished()
        return self._details

    async def initial_metadata(self) -> grpc.aio.Metadata:
        while not self._initial and not self._messages and self._code is None:
            await self._wait_change()
        return grpc.aio.Metadata(*self._initial)

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        await self._wait_finished()
        return grpc.aio.Metadata(*self._trailing)

    async def read(self) -> Any:
        """The next message, or grpc.aio.EOF after an OK end."""
        while not self._messages:
            if self._code is not None:
                self._raise_unless_ok()
                return grpc.aio.EOF
            await self._wait_change()
        self._on_read_one()
        return self._deserialize(self._messages.popleft())

    def __aiter__(self) -> "AsyncIterator[Any]":
        return self._iterate()

    def __await__(self) -> Generator[Any, None, Any]:
        return self._answer().__await__()

    async def _answer(self) -> Any:
        await self._wait_finished()
        self._raise_unless_ok()
        return self._deserialize(self._messages[0])

    async def _iterate(self) -> "AsyncIterator[Any]":
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message

    def _on_read_one(self) -> None:
        if self._call.context is not None:
            self._call.context.window.release()

    async def _wait_finished(self) -> None:
        while self._code is None:
            await self._wait_change()

    async def _wait_change(self) -> None:
        self._changed.clear()
        try:
            await self._changed.wait()
        except asyncio.CancelledError:
            self.cancel()  # a call that nobody waits for is over, as in grpc.aio
            raise

    def _raise_unless_ok(self) -> None:
        if self._is_locally_cancelled:
            raise asyncio.CancelledError
        assert self._code is not None
        if self._code is not grpc.StatusCode.OK:
            raise grpc.aio.AioRpcError(
                self._code, grpc.aio.Metadata(*self._initial), grpc.aio.Metadata(*self._trailing), self._details
            )

    def _expire(self) -> None:
        self.finish(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        self._call.to_server(self._call.end_server)


class MemoryContext:
    """What a handler sees of its call."""

    def __init__(self, call: Call, serializer: Callable[[Any], bytes] | None) -> None:
        self._call = call
        self._serialize = serializer or (lambda message: message)
        self._trailing: Pairs = ()
        self._code = grpc.StatusCode.OK
        self._details = ""
        self._callbacks: list[Callable[[Any], None]] = []
        self.window = asyncio.Semaphore(WINDOW)
        self.is_cancelled = False
        self.is_done = False
        self.is_aborted = False
        """As with grpc: whatever the handler does behind it, its answer is that one."""
        call.context = self

    def invocation_metadata(self) -> Pairs:
        return self._call.metadata

    def time_remaining(self) -> float | None:
        deadline = self._call.deadline
        return None if deadline is None else max(deadline - self._call.network.loop.time(), 0.0)

    def peer(self) -> str:
        return f"memory:{self._call.ends[0]}"

    def auth_context(self) -> dict[str, list[bytes]]:
        return {}

    def set_trailing_metadata(self, metadata: Pairs) -> None:
        self._trailing = tuple(metadata)

    def trailing_metadata(self) -> Pairs:
        return self._trailing

    def set_code(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def set_details(self, details: str) -> None:
        self._details = details

    def details(self) -> str:
        return self._details

    def cancelled(self) -> bool:
        return self.is_cancelled

    def done(self) -> bool:
        return self.is_done

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._callbacks.append(callback)

    async def send_initial_metadata(self, metadata: Pairs) -> None:
        client = self._client()
        self._call.to_client(lambda: client.arrive_initial(tuple(metadata)))

    async def write(self, message: Any) -> None:
        """Waits while the reader is WINDOW messages behind."""
        raw = self._serialize(message)
        assert isinstance(raw, bytes)
        await self.window.acquire()
        self.send(raw)

    def send(self, raw: bytes) -> None:
        client = self._client()
        self._call.to_client(lambda: client.arrive(raw))

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Pairs = ()) -> None:
        self._code, self._details = code, details
        if trailing_metadata:
            self._trailing = tuple(trailing_metadata)
        self.is_aborted = True
        raise grpc.aio.AbortError(f"aborted: {code}")

    def finish(self) -> None:
        """The handler is over: its status travels, and nothing after it."""
        self.is_done = True
        code, details, trailing = self._code, self._details, self._trailing
        self._call.to_client(lambda: self._call.end_client(code, details, trailing))
        for callback in self._callbacks:
            callback(self)

    def _client(self) -> ClientHalf:
        assert self._call.client_half is not None
        return self._call.client_half
