"""Server-sent events over HTTP/1.1, read as they come: the little that measuring a completions server needs.

Written on asyncio's streams: at a thousand tokens a second the client shares the cores with what it measures, and a
general HTTP library would cost more than the answers' arithmetic allows. Loopback only: no TLS, no redirects, one
request per connection. Nothing here is for production.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from common.core.errors import Unavailable

MAX_LINE_BYTES = 1 << 20
SILENCE_S = 300.0
"""Chosen: a server that says nothing for so long has stopped; long prompts behind others wait for minutes."""

OK = 200


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
                return (await _status(reader)) == OK
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
        return False


async def post_events(server: Server, path: str, body: Mapping[str, object]) -> AsyncIterator[bytes]:
    """The data of each event. Closing the iterator closes the connection. Raises Unavailable."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=MAX_LINE_BYTES)
    except OSError as error:
        raise Unavailable(message=f"{server.name} does not listen on port {server.port}: {error}") from error
    try:
        payload = json.dumps(body).encode()
        writer.write(_head("POST", path, server, len(payload)) + payload)
        status = await _status(reader)
        if status != OK:
            raise Unavailable(message=f"{server.name} answers {status} to {path}")
        async for line in _lines(reader):
            if line.startswith(b"data:"):
                yield line[5:].strip()
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
        raise Unavailable(message=f"{server.name} broke off: {error!r}") from error
    finally:
        writer.close()


def _head(method: str, path: str, server: Server, num_bytes: int) -> bytes:
    lines = (
        f"{method} {path} HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}",
        "Content-Type: application/json",
        f"Content-Length: {num_bytes}",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode()


async def _status(reader: asyncio.StreamReader) -> int:
    """The status line's number; the headers are read over. Raises ValueError for a body that is not chunked."""
    async with asyncio.timeout(SILENCE_S):
        status = int((await reader.readline()).partition(b" ")[2][:3])
        headers = b""
        while (line := await reader.readline()).strip():
            headers += line.lower()
    if status == OK and b"text/event-stream" in headers and b"transfer-encoding: chunked" not in headers:
        raise ValueError("events come in chunks")
    return status


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Whole lines of a chunked body: chunks may end anywhere."""
    rest = b""
    while True:
        async with asyncio.timeout(SILENCE_S):
            num_bytes = int((await reader.readline()).split(b";")[0], 16)
            chunk = await reader.readexactly(num_bytes + 2)
        *lines, rest = (rest + chunk[:-2]).split(b"\n")
        for line in lines:
            yield line
        if num_bytes == 0:
            return
