"""Goal: the light client hears exactly what grpc's own hears. Method: one server, both clients; and failing servers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from common.core.errors import Unavailable
from common.rpc.options import Surface, channel_options, server_options
from services.local.bench.feed import Feed
from services.local.bench.frames import Flag, Kind, frame, header_block, read_headers
from services.local.bench.message_stream import connected

METHOD = "/bench.Echo/Answer"
SIZES = (0, 1, 60, 16_384 - 5, 16_384, 100_000, 7)
Answer = Callable[[bytes, Any], AsyncIterator[bytes]]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    """A server of grpc's own with one method."""
    server = grpc.aio.server(options=list(server_options(Surface.CLIENT)))
    method = grpc.unary_stream_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", {"Answer": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


async def sized(request: bytes, context: Any) -> AsyncIterator[bytes]:
    """Messages of every size, each begun with the request."""
    await context.send_initial_metadata((("a-name", "a" * 200),))
    for size in SIZES:
        yield request[:8] + bytes(size)


async def heard(address: str, *requests: bytes) -> list[list[bytes]]:
    """All answers, asked for at once over one connection."""
    async with connected(address) as connection:
        feeds: list[Feed[bytes]] = [Feed() for _ in requests]
        for request, feed in zip(requests, feeds, strict=True):
            connection.call(METHOD, request, feed.put, feed.end)
        async with asyncio.timeout(5.0):
            return [[message async for message in feed.items()] for feed in feeds]


async def test_what_it_hears_is_what_grpc_hears() -> None:
    requests = [number.to_bytes(1, "big") * length for number, length in enumerate((1, 3, 300, 40_000))]
    async with serving(sized) as address:
        async with grpc.aio.insecure_channel(address, options=list(channel_options(Surface.CLIENT))) as channel:
            calls = [channel.unary_stream(METHOD)(request) for request in requests]
            expected = [[message async for message in call] for call in calls]
        assert await heard(address, *requests) == expected


async def test_more_than_a_window_comes_through() -> None:
    async def long(request: bytes, context: Any) -> AsyncIterator[bytes]:
        for _ in range(60):
            yield bytes(100_000)

    async with serving(long) as address:
        (messages,) = await heard(address, b"x")
    assert [len(message) for message in messages] == [100_000] * 60


async def test_a_status_that_is_not_ok_is_told_with_its_message_behind_what_came_before() -> None:
    async def failing(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"one"
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no room")

    async with serving(failing) as address, connected(address) as connection:
        feed: Feed[bytes] = Feed()
        connection.call(METHOD, b"x", feed.put, feed.end)
        items = feed.items()
        assert await anext(items) == b"one"
        with pytest.raises(Unavailable, match="grpc status 8: no room"):
            await anext(items)


async def test_a_call_that_is_cancelled_ends_at_the_server_and_the_others_go_on() -> None:
    ended = asyncio.Event()

    async def waiting(request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            yield b"one"
            if request == b"wait":
                await asyncio.sleep(5.0)
        finally:
            if request == b"wait":
                ended.set()

    async with serving(waiting) as address, connected(address) as connection:
        feed: Feed[bytes] = Feed()
        call = connection.call(METHOD, b"wait", feed.put, feed.end)
        assert await anext(feed.items()) == b"one"
        connection.cancel(call)
        connection.cancel(call)
        async with asyncio.timeout(3.0):
            await ended.wait()
        other: Feed[bytes] = Feed()
        connection.call(METHOD, b"go", other.put, other.end)
        assert [message async for message in other.items()] == [b"one"]


@asynccontextmanager
async def raw(serve: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """A server of bytes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        await serve(writer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


BREAKS = {
    "hangs up": b"",
    "goes away": frame(Kind.GOAWAY, Flag.NONE, 0, bytes(8)),
    "resets": frame(Kind.RST_STREAM, Flag.NONE, 1, bytes(4)),
    "compresses": frame(Kind.DATA, Flag.NONE, 1, b"\1\0\0\0\1x"),
    "ends amid a header": frame(Kind.HEADERS, Flag.END_HEADERS, 1, b"\x00\x7f"),
}


@pytest.mark.parametrize("answer", BREAKS.values(), ids=BREAKS.keys())
async def test_a_server_that_breaks_off_is_unavailable(answer: bytes) -> None:
    async def serve(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    async with raw(serve) as address:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
            await heard(address, b"x")


async def test_frames_may_be_cut_anywhere_and_padded() -> None:
    message = b"\0\0\0\0\3abc"
    parts = [
        frame(Kind.SETTINGS, Flag.NONE, 0),
        frame(Kind.PING, Flag.NONE, 0, bytes(8)),
        frame(Kind.DATA, Flag.PADDED, 1, b"\2" + message + b"\0\0"),
        frame(Kind.DATA, Flag.NONE, 1, message[:4]),
        frame(Kind.DATA, Flag.NONE, 1, message[4:] + message),
        frame(Kind.HEADERS, Flag.END_STREAM, 1, header_block({"grpc-status": "0"})[:6]),
        frame(Kind.CONTINUATION, Flag.END_HEADERS, 1, header_block({"grpc-status": "0"})[6:]),
    ]

    async def serve(writer: asyncio.StreamWriter) -> None:
        for byte in b"".join(parts):
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(0)

    async with raw(serve) as address:
        assert await heard(address, b"x") == [[b"abc"] * 3]


def test_header_blocks_are_read_as_they_are_written() -> None:
    headers = {"grpc-status": "13", "grpc-message": "x" * 1000, "empty": ""}
    assert read_headers(header_block(headers)) == headers


def test_entries_of_the_static_table_and_huffman_values_are_read_over() -> None:
    block = b"\x88" + b"\x3f\xe1\x1f" + b"\x0f\x10\x01x" + b"\x40\x01a\x81\x1f" + header_block({"b": "c"})
    assert read_headers(block) == {"b": "c"}


async def test_nobody_listening_is_unavailable() -> None:
    async with serving(sized) as address:
        pass
    with pytest.raises(Unavailable, match="cannot be reached"):
        async with connected(address):
            pass
