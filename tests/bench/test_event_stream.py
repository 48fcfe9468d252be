"""Peers over HTTP: events however they are cut, and servers that fail."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from common.core.clock import SystemClock
from common.core.errors import Unavailable
from services.local.bench.event_stream import Server, is_healthy, post_events
from services.local.bench.http_target import HttpTarget, ModelShape

SHAPE = ModelShape(vocab_size=100, max_context=100)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def serving(answer: bytes, *, seen: Callable[[bytes], None] = lambda _: None) -> AsyncIterator[Server]:
    """A server that answers every request with the same bytes, then hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.split(b"Content-Length:")[1].split(b"\r\n")[0])
        seen(await reader.readexactly(length))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Server(name="peer", port=server.sockets[0].getsockname()[1])


def chunked(body: bytes, *, every: int) -> bytes:
    parts = [body[start : start + every] for start in range(0, len(body), every)]
    return HEAD + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))


async def events_of(server: Server) -> list[bytes]:
    return [data async for data in post_events(server, "/v1/completions", {"prompt": [1]})]


@pytest.mark.parametrize("every", [1, 7, 1000])
async def test_events_arrive_whole_wherever_chunks_end(every):
    body = b'data: {"a": 1}\n\n: a comment\n\ndata: {"b": 2}\r\n\r\ndata: [DONE]\n\n'
    async with serving(chunked(body, every=every)) as server:
        assert await events_of(server) == [b'{"a": 1}', b'{"b": 2}', b"[DONE]"]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b"no HTTP at all\r\n\r\n",
        b"",
        HEAD + b"ff\r\ncut short",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n",
    ],
)
async def test_a_server_that_fails_is_unavailable(answer):
    async with serving(answer) as server:
        with pytest.raises(Unavailable, match="peer"):
            await events_of(server)


async def test_nobody_listening_is_unavailable_and_not_healthy():
    async with serving(b"") as server:
        port = server.port
    gone = Server(name="gone", port=port)
    assert not await is_healthy(gone, "/health", 1.0)
    with pytest.raises(Unavailable, match="gone"):
        await events_of(gone)


async def test_health_is_status_200():
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as server:
        assert await is_healthy(server, "/health", 1.0)
    async with serving(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n") as server:
        assert not await is_healthy(server, "/health", 1.0)


async def test_tokens_are_counted_as_the_server_counts_them():
    """A chunk may carry several tokens, and the closing one none."""
    counts = [1, 4, 4, 5]
    lines = [b'data: {"choices": [{"text": "x"}], "usage": {"completion_tokens": %d}}\n\n' % count for count in counts]
    async with serving(chunked(b"".join((*lines, b"data: [DONE]\n\n")), every=50)) as server:
        target = HttpTarget(server, model="m", shape=SHAPE, body={}, clock=SystemClock())
        assert [piece.num_tokens async for piece in target.stream((1, 2), 5)] == [1, 3, 1]


async def test_without_counts_each_event_with_text_is_a_token():
    events = [b'{"choices": [{"text": "a"}]}', b'{"choices": [{"text": "", "finish_reason": "length"}]}']
    body = b"".join(b"data: %s\n\n" % event for event in events)
    async with serving(chunked(body, every=1000)) as server:
        target = HttpTarget(server, model="m", shape=SHAPE, body={}, clock=SystemClock())
        assert [piece.num_tokens async for piece in target.stream((1, 2), 5)] == [1]


async def test_an_error_in_the_stream_is_not_a_short_answer():
    async with serving(chunked(b'data: {"error": {"message": "out of memory"}}\n\n', every=1000)) as server:
        target = HttpTarget(server, model="m", shape=SHAPE, body={}, clock=SystemClock())
        with pytest.raises(Unavailable, match="out of memory"):
            _ = [piece async for piece in target.stream((1, 2), 5)]
