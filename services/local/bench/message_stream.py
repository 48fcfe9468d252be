"""gRPC messages over HTTP/2, read as they come: the little that measuring a router needs.

A client shares the cores with what it measures. grpc's own takes a tenth of a millisecond per message, as much as the
router; this one a tenth of that, because all frames that arrive together are read in one turn of the loop. Loopback
only: no TLS, no compression, no deadline, requests of at most one window. Nothing here is for production.
"""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from common.core.errors import BatonError, Unavailable
from services.local.bench.frames import (
    FIRST_WINDOW_BYTES,
    HEAD_BYTES,
    MAX_FRAME_BYTES,
    MAX_WINDOW_BYTES,
    PREFACE,
    Flag,
    Kind,
    Setting,
    frame,
    header_block,
    read_headers,
    settings,
    window_update,
)

SILENCE_S = 300.0
"""As for servers over HTTP: one that says nothing for so long has stopped."""

MESSAGE_HEAD_BYTES = 5
FRAME_HEAD = struct.Struct(">BHBBI")
"""Length in three bytes, kind, flags, stream."""

REFRESH_BYTES = 1 << 20
"""Of what was read, until the connection's window is filled up again. Chosen: a small part of it."""

OK = "0"

Take = Callable[[bytes], None]
End = Callable[[BatonError | None], None]


@dataclass(eq=False, slots=True)
class Call:
    """One answer: `take` hears of each message, `end` once of the end, with what went wrong."""

    take: Take
    end: End
    rest: bytearray = field(default_factory=bytearray)
    block: bytes = b""


class MessageConnection(asyncio.Protocol):
    """All calls to one server, by `connected`. Writer: the event loop."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._calls: dict[int, Call] = {}
        self._next_stream = 1
        self._rest = b""
        self._num_read = 0
        self._transport: asyncio.WriteTransport | None = None
        self._heard_at = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._error: Unavailable | None = None

    def call(self, path: str, request: bytes, take: Take, end: End) -> int:
        """Asks; the number of the call, for `cancel`. Raises Unavailable when the connection is gone."""
        if self._error is not None or self._transport is None:
            raise self._error or Unavailable(message=f"{self._address} is not connected")
        message = b"\0" + len(request).to_bytes(4, "big") + request
        assert len(message) <= FIRST_WINDOW_BYTES, "a benchmark's requests fit into one window"
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        self._calls[stream] = Call(take=take, end=end)
        head = {":method": "POST", ":scheme": "http", ":path": path, ":authority": self._address}
        head |= {"te": "trailers", "content-type": "application/grpc"}
        parts = [frame(Kind.HEADERS, Flag.END_HEADERS, stream, header_block(head))]
        for start in range(0, len(message), MAX_FRAME_BYTES):
            is_last = start + MAX_FRAME_BYTES >= len(message)
            flags = Flag.END_STREAM if is_last else Flag.NONE
            parts.append(frame(Kind.DATA, flags, stream, message[start : start + MAX_FRAME_BYTES]))
        self._transport.write(b"".join(parts))
        return stream

    def cancel(self, stream: int) -> None:
        """Nobody reads the answer any more. Idempotent."""
        if self._calls.pop(stream, None) is not None and self._transport is not None:
            self._transport.write(frame(Kind.RST_STREAM, Flag.NONE, stream, (8).to_bytes(4, "big")))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        wishes = {
            Setting.HEADER_TABLE_SIZE: 0,
            Setting.ENABLE_PUSH: 0,
            Setting.INITIAL_WINDOW_SIZE: MAX_WINDOW_BYTES,
        }
        transport.write(PREFACE + settings(wishes) + window_update(0, MAX_WINDOW_BYTES - FIRST_WINDOW_BYTES))
        self._heard_at = asyncio.get_running_loop().time()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._fail(f"{self._address} hung up")

    def data_received(self, data: bytes) -> None:
        """All frames that are whole. What breaks the protocol ends the connection."""
        self._heard_at = asyncio.get_running_loop().time()
        self._num_read += len(data)
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        try:
            while size - at >= HEAD_BYTES:
                high, low, kind, flags, stream = FRAME_HEAD.unpack_from(data, at)
                start = at + HEAD_BYTES
                end = start + (high << 16 | low)
                if end > size:
                    break
                if kind == Kind.DATA:
                    self._take_data(stream, flags, data[start:end])
                else:
                    self._take_frame(kind, flags, stream, data[start:end])
                at = end
        except ValueError as error:
            self._fail(f"{self._address} breaks HTTP/2: {error}")
            return
        self._rest = data[at:]
        if self._num_read >= REFRESH_BYTES:
            self._write(window_update(0, self._num_read))
            self._num_read = 0

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _take_data(self, stream: int, flags: int, payload: bytes) -> None:
        call = self._calls.get(stream)
        if call is None:
            return
        if flags & Flag.PADDED:
            payload = payload[1 : len(payload) - payload[0]]
        if not call.rest and int.from_bytes(payload[:MESSAGE_HEAD_BYTES], "big") == len(payload) - MESSAGE_HEAD_BYTES:
            call.take(payload[MESSAGE_HEAD_BYTES:])  # a frame that is one message: nearly every time
            return
        rest = call.rest
        rest += payload
        while len(rest) >= MESSAGE_HEAD_BYTES:
            if rest[0]:
                raise ValueError("a compressed message")
            end = MESSAGE_HEAD_BYTES + int.from_bytes(rest[1:MESSAGE_HEAD_BYTES], "big")
            if len(rest) < end:
                return
            message = bytes(rest[MESSAGE_HEAD_BYTES:end])
            del rest[:end]
            call.take(message)

    def _take_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        match kind:
            case Kind.SETTINGS if not flags & Flag.ACK:
                self._write(frame(Kind.SETTINGS, Flag.ACK, 0))
            case Kind.PING if not flags & Flag.ACK:
                self._write(frame(Kind.PING, Flag.ACK, 0, payload))
            case Kind.HEADERS | Kind.CONTINUATION:
                self._take_headers(kind, flags, stream, payload)
            case Kind.RST_STREAM if (call := self._calls.pop(stream, None)) is not None:
                call.end(Unavailable(message=f"{self._address} reset a call"))
            case Kind.GOAWAY:
                self._fail(f"{self._address} goes away")
            case _:  # windows that it opens for us, and what later versions know
                pass

    def _take_headers(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """The last ones carry the status. One block may come in several frames; a flag of the first is kept."""
        call = self._calls.get(stream)
        if call is None:
            return
        if kind == Kind.HEADERS and flags & Flag.PADDED:
            payload = payload[1 : len(payload) - payload[0]]
        if kind == Kind.HEADERS and flags & Flag.PRIORITY:
            payload = payload[5:]
        call.block += payload
        if not flags & Flag.END_HEADERS:
            return
        headers, call.block = read_headers(call.block), b""
        if (status := headers.get("grpc-status")) is None:
            return
        del self._calls[stream]
        what = f"{self._address} answers grpc status {status}: {headers.get('grpc-message', '')}"
        call.end(None if status == OK else Unavailable(message=what))

    def _write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    def _fail(self, why: str) -> None:
        """Every call ends with the same reason. The first reason counts."""
        if self._error is None:
            self._error = Unavailable(message=why)
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.end(self._error)
        self.close()

    def _look(self) -> None:
        """Now and then: a server that is silent for too long is given up."""
        loop = asyncio.get_running_loop()
        if self._calls and loop.time() - self._heard_at > SILENCE_S:
            self._fail(f"{self._address} said nothing for {SILENCE_S:.0f} s")
            return
        self._watch = loop.call_later(SILENCE_S / 2, self._look)


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[MessageConnection]:
    """A connection for the block. `address`: host:port. Raises Unavailable."""
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(SILENCE_S):
            transport, connection = await loop.create_connection(lambda: MessageConnection(address), host, int(port))
    except (OSError, TimeoutError) as error:
        raise Unavailable(message=f"{address} cannot be reached: {error}") from error
    try:
        yield connection
    finally:
        transport.close()
