"""Connections: how many, for how long, and that an answer arrives even where the request was not read whole."""

import asyncio
import socket

import pytest

from services.gateway import server, timed_protocol
from tests.gateway.house import HELLO, gateway
from tests.gateway.wire import exchange, parse

PATH = b"/v1/completions"


async def connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def test_idle_connections_do_not_keep_others_out():
    """Forty idle ones where sixteen may be: the oldest give way, and whoever asks is answered at once."""
    async with gateway(HELLO, max_connections=16, head_s=30.0) as house:
        idle = [await connect(house.address) for _ in range(40)]
        async with asyncio.timeout(2.0):
            assert (await house.get("/health")).status == 200
        ended = [await reader.read(1) == b"" for reader, _writer in idle[:20]]
        assert all(ended)
        for _reader, writer in idle:
            writer.close()


async def test_idle_connections_do_not_take_the_last_file(monkeypatch):
    """The system allows fewer than the configuration: without a bound of its own nobody could be accepted any more."""
    monkeypatch.setattr(server, "num_descriptors", lambda: 16)
    async with gateway(HELLO, head_s=30.0) as house:
        idle = [await connect(house.address) for _ in range(20)]
        async with asyncio.timeout(2.0):
            assert (await house.get("/health")).status == 200
        assert [await reader.read(1) == b"" for reader, _writer in idle[:8]] == [True] * 8
        for _reader, writer in idle:
            writer.close()


async def test_where_all_connections_work_the_next_one_is_told_503():
    gate = asyncio.Event()
    async with gateway((gate, *HELLO), max_connections=2) as house:
        asking = [asyncio.create_task(house.post("/v1/completions", {"prompt": "x"})) for _ in range(2)]
        while len(house.router.asked) < 2:
            await asyncio.sleep(0.01)
        reader, writer = await connect(house.address)
        told = parse(await asyncio.wait_for(reader.read(-1), 3))
        writer.close()
        assert (told.status, told.headers["retry-after"], told.error["code"]) == (503, "1", "load_shed")
        gate.set()
        assert [answer.status for answer in await asyncio.gather(*asking)] == [200, 200]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: 3000000\r\n\r\n" % PATH, 413),
        (b"POST /v1/nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 3000000\r\n\r\n", 404),
        (b"DELETE %b HTTP/1.1\r\nhost: x\r\ncontent-length: 3000000\r\n\r\n" % PATH, 405),
        (b"POST %b HTTP/1.1\r\nhost: x\r\nx:\x00y\r\n\r\n" % PATH, 400),
        (b"POST %b HTTP/1.1\r\nhost: x\r\nx: %b\r\n\r\n" % (PATH, b"y" * 20_000), 431),
    ],
)
async def test_a_client_that_goes_on_sending_still_gets_its_answer(head, status):
    """It writes all of its body before it reads. A server that closes at once would reset the connection."""
    async with gateway(HELLO) as house:
        host, _, port = house.address.rpartition(":")

        def talk() -> bytes:
            with socket.create_connection((host, int(port)), timeout=5) as wire:
                wire.sendall(head)
                for _ in range(300):
                    wire.sendall(b"x" * 10_000)
                answer = b""
                while part := wire.recv(65536):
                    answer += part
                return answer

        assert parse(await asyncio.to_thread(talk)).status == status


@pytest.mark.parametrize("path", [b"/v1/completions", b"/v1/nothing", b"/health"])
async def test_a_body_without_end_ends_its_connection(path):
    """Six bytes at a time, for ever: B29 gives it ten seconds."""
    async with gateway(HELLO, head_s=0.3) as house:
        reader, writer = await connect(house.address)
        writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" % path)

        async def drip() -> None:
            while True:
                writer.write(b"6\r\nxxxxxx\r\n")
                await writer.drain()
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        async with asyncio.timeout(5):
            answer = await reader.read(65536)
            with pytest.raises(ConnectionError):
                await dripping
        writer.close()
    assert parse(answer).status in (404, 405, 408)


async def test_what_is_read_after_the_last_word_is_bounded(monkeypatch):
    monkeypatch.setattr(timed_protocol, "LINGER_BYTES", 100_000)
    monkeypatch.setattr(timed_protocol, "LINGER_S", 20.0)
    async with gateway(HELLO) as house:
        reader, writer = await connect(house.address)
        writer.write(b"nonsense\r\n\r\n")
        assert parse(await asyncio.wait_for(reader.read(4096), 3)).status == 400
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(_send_on(writer), 5)


async def _send_on(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("request_bytes", "statuses"),
    [
        (b"GET /health HTTP/1.0\r\n\r\n", (200,)),
        (b"\r\nGET /health HTTP/1.0\r\n\r\n", (200,)),
        (b"\r\n" * 9 + b"GET /health HTTP/1.0\r\n\r\n", (400,)),
        (b"POST %b HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 9999999\r\n\r\n" % PATH, (413,)),
        (b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: x\r\n\r\n" % PATH, (400,)),
        (b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n" % PATH, (400,)),
        (b"POST %b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n" % PATH, (400, 501)),
        (
            b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" % PATH,
            (400,),
        ),
        (b'POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: 14\r\nconnection: close\r\n\r\n{"prompt": 1}' % PATH, (408,)),
        (b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}" % PATH, (415,)),
    ],
)
async def test_strange_framing_gets_a_status_of_its_own(request_bytes, statuses):
    """B29, beside what the tests above say."""
    async with gateway(HELLO, head_s=0.3) as house:
        answer = await exchange(house.address, request_bytes)
    assert answer.status in statuses


async def test_leave_to_send_is_given_where_the_body_is_wanted():
    body = b'{"prompt": "x"}'
    async with gateway(HELLO) as house:
        reader, writer = await connect(house.address)
        head = b"POST %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % (PATH, len(body)))
        assert b"100" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 3)
        writer.write(body)
        assert parse(await asyncio.wait_for(reader.read(-1), 3)).status == 200
        writer.close()


async def test_a_line_between_requests_is_overlooked():
    """Goal: RFC 9112, 2.2. Method: a body that is longer by a line than its length says, and a request behind it."""
    body = b'{"prompt": "x"}'
    first = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b\r\n" % (PATH, len(body), body)
    async with gateway(HELLO) as house:
        reader, writer = await connect(house.address)
        writer.write(first + b"GET /version HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        said = await asyncio.wait_for(reader.read(-1), 3)
        writer.close()
    assert said.count(b"HTTP/1.1 200 OK") == 2
