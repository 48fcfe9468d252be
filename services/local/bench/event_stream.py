"""Server-sent events over HTTP/1.1, read as they come: the little that measuring a completions server needs.

Written on a protocol of asyncio's: at a thousand tokens a second the client shares the cores with what it measures, and
a general HTTP library, or streams, would cost more than the answers' arithmetic allows. `message_stream` is the same
for a router. Loopback only: no TLS, no redirects, one request per connection. Nothing here is for production.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from common.core.errors import Unavailable
from services.local.bench.feed import Feed

MAX_LINE_BYTES = 1 << 20
SILENCE_S = 300.0
"""Chosen: a server that says nothing for so long has stopped; long prompts behind others wait for minutes."""

OK = 200
NEW_LINE = b"\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server on this machine."""

    name: str
    port: int


async def is_healthy(server: Server, path: str, timeout_s: float) -> bool:
    """Whether a GET answers 200 in time."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            try:
                writer.write(_head("GET", path, server, 0))
                return _status(await reader.readline()) == OK
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
        return False


async def post_events(server: Server, path: str, body: Mapping[str, object]) -> AsyncIterator[bytes]:
    """The data of each event. Closing the iterator closes the connection. Raises Unavailable."""
    loop = asyncio.get_running_loop()
    feed: Feed[bytes] = Feed()
    try:
        transport, events = await loop.create_connection(lambda: Events(server, path, feed), "127.0.0.1", server.port)
    except OSError as error:
        raise Unavailable(message=f"{server.name} does not listen on port {server.port}: {error}") from error
    try:
        payload = json.dumps(body).encode()
        transport.write(_head("POST", path, server, len(payload)) + payload)
        async with aclosing(feed.items()) as items:
            async for data in items:
                yield data
    finally:
        events.stop()
        transport.close()


class Events(asyncio.Protocol):
    """One answer's events into `feed`: head, then chunks, then lines, each of which may end anywhere."""

    def __init__(self, server: Server, path: str, feed: Feed[bytes]) -> None:
        self._server = server
        self._path = path
        self._feed = feed
        self._has_head = False
        self._raw = b""
        self._line = b""
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._watch = self._loop.call_later(SILENCE_S / 2, self._look)

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        self._raw = self._raw + data if self._raw else data
        try:
            if not self._has_head and not self._read_head():
                return
            self._read_chunks()
        except (ValueError, IndexError) as error:
            self._break_off(repr(error))
        except Unavailable as error:
            self._feed.end(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.stop()
        self._break_off("it hung up")

    def stop(self) -> None:
        self._watch.cancel()

    def _read_head(self) -> bool:
        """Whether all of it is here; what follows is left. Raises Unavailable for another status than 200, ValueError
        for a body that is not chunked."""
        head, end, rest = self._raw.partition(NEW_LINE * 2)
        if not end:
            return False
        lines = head.lower()
        if (status := _status(head)) != OK:
            raise Unavailable(message=f"{self._server.name} answers {status} to {self._path}")
        if b"text/event-stream" in lines and b"transfer-encoding: chunked" not in lines:
            raise ValueError("events come in chunks")
        self._has_head, self._raw = True, rest
        return True

    def _read_chunks(self) -> None:
        """All chunks that are whole."""
        raw, at = self._raw, 0
        while (border := raw.find(NEW_LINE, at)) >= 0:
            start = border + 2
            end = start + int(raw[at:border].split(b";")[0], 16)
            if end == start:
                self._feed.end()
            if len(raw) < end + 2:
                break
            self._read_lines(raw[start:end])
            at = end + 2
        self._raw = raw[at:]

    def _read_lines(self, chunk: bytes) -> None:
        *lines, self._line = (self._line + chunk).split(b"\n")
        if len(self._line) > MAX_LINE_BYTES:
            raise ValueError(f"a line of more than {MAX_LINE_BYTES} bytes")
        for line in lines:
            if line.startswith(b"data:"):
                self._feed.put(line[5:].strip())

    def _look(self) -> None:
        """Now and then: a server that is silent for too long is given up."""
        if self._loop.time() - self._heard_at > SILENCE_S:
            self._break_off(f"silent for {SILENCE_S:.0f} s")
        self._watch = self._loop.call_later(SILENCE_S / 2, self._look)

    def _break_off(self, why: str) -> None:
        self._feed.end(Unavailable(message=f"{self._server.name} broke off: {why}"))


def _head(method: str, path: str, server: Server, num_bytes: int) -> bytes:
    lines = (
        f"{method} {path} HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}",
        "Content-Type: application/json",
        f"Content-Length: {num_bytes}",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode()


def _status(head: bytes) -> int:
    """The status line's number. Raises ValueError."""
    return int(head.partition(b" ")[2][:3])
