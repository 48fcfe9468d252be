"""The options do what they are for: a frozen peer is noticed in seconds, although its kernel goes on acknowledging."""

import asyncio
import signal
import sys
from collections import Counter
from typing import Any

import grpc
import pytest

from common.config.sections.cluster import LivenessSection
from common.core.errors import Unavailable
from common.rpc.bind import Bind
from common.rpc.client import call, grpc_connect, stream
from common.rpc.options import LIMITS, Pings, Surface, channel_options, server_options
from common.rpc.server import serve
from protos.baton.v1 import worker_pb2, worker_pb2_grpc
from tests.rpc.process import PickyServicer, worker_service
from tests.steady.patient_loop import now


@pytest.mark.parametrize("surface", list(Surface))
def test_no_option_is_set_twice(surface: Surface) -> None:
    for options in (server_options(surface), channel_options(surface)):
        names = [name for name, _ in options]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("surface", list(Surface))
def test_pings_from_the_configuration_replace_the_surfaces_own(surface: Surface) -> None:
    pings = Pings(every_s=0.2, timeout_s=0.3)
    for options in (dict(server_options(surface, pings)), dict(channel_options(surface, pings))):
        assert options["grpc.keepalive_time_ms"] == 200
        assert options["grpc.http2.ping_timeout_ms"] == 300
    assert int(dict(server_options(surface, pings))["grpc.http2.min_ping_interval_without_data_ms"]) < 200


def test_a_message_limit_from_the_configuration_replaces_the_surfaces_own() -> None:
    options = dict(server_options(Surface.CLIENT, max_message_bytes=5000))
    assert options["grpc.max_receive_message_length"] == 5000


def test_pings_come_from_the_liveness_section() -> None:
    assert Pings.of(LivenessSection(ping_s=0.2, ping_timeout_s=0.3)) == Pings(every_s=0.2, timeout_s=0.3)


def test_servers_permit_the_pings_that_our_channels_send() -> None:
    for limits in LIMITS.values():
        assert limits.min_ping_interval_ms < limits.ping_every_ms


BURST = 2500
"""grpc by itself cancels a share of what waits for a handler from 1,000 on."""


def test_of_a_burst_of_calls_none_is_cancelled_before_its_handler_hears_of_it() -> None:
    async def echo(request: bytes, context: object) -> bytes:
        return request

    async def body() -> Counter[str]:
        server = grpc.aio.server(options=server_options(Surface.CLIENT))
        handlers: dict[str, Any] = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Burst", handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        channels: list[Any] = [
            grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=channel_options(Surface.CLIENT)) for _ in range(5)
        ]
        calls = [channels[number % 5].unary_unary("/test.Burst/Echo")(b"x", timeout=60) for number in range(BURST)]
        codes = Counter([(await each.code()).name for each in calls])
        for channel in channels:
            await channel.close()
        await server.stop(None)
        return codes

    assert asyncio.run(body()) == {"OK": BURST}


SLOW_S = 0.6
"""More than the 100 ms that an attempt used to have, less than it has now."""


def test_a_peer_that_is_slow_to_shake_hands_is_reached_at_the_first_attempt() -> None:
    """On a busy machine, or behind TLS and a long line. The forwarder holds the first bytes back."""

    async def body() -> None:
        server = await serve([worker_service(PickyServicer())], Bind(), surface=Surface.INTERNAL)

        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(SLOW_S)
            answers, asks = await asyncio.open_connection(*server.address.split(":"))
            await asyncio.gather(pump(reader, asks), pump(answers, writer), return_exceptions=True)

        forwarder = await asyncio.start_server(forward, "127.0.0.1")
        port = forwarder.sockets[0].getsockname()[1]
        async with grpc_connect(Surface.INTERNAL)(f"127.0.0.1:{port}") as channel:
            stub = worker_pb2_grpc.WorkerServiceStub(channel)
            await call(stub.GetStatus, worker_pb2.GetStatusRequest(), peer="w", timeout_s=20)
        forwarder.close()
        await server.stop(0.0)

    asyncio.run(asyncio.wait_for(body(), 60))


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65_536):
        writer.write(chunk)
    writer.close()


async def wait_for_answer(stub: "worker_pb2_grpc.WorkerServiceAsyncStub", kind: str) -> None:
    if kind == "unary":
        await call(stub.Drain, worker_pb2.DrainRequest(), peer="w", timeout_s=30)
        return
    async with stream(stub.Subscribe, worker_pb2.SubscribeRequest(), peer="w", timeout_s=30) as responses:
        async for _ in responses:
            pass


@pytest.mark.parametrize("kind", ["unary", "stream"])
def test_a_call_to_a_frozen_process_fails_within_ping_and_timeout(kind: str) -> None:
    async def body() -> None:
        peer = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.rpc.process", "serve", stdout=asyncio.subprocess.PIPE
        )
        assert peer.stdout is not None
        address = (await asyncio.wait_for(peer.stdout.readline(), 30)).decode().strip()
        try:
            async with grpc_connect(Surface.INTERNAL)(address) as channel:
                stub = worker_pb2_grpc.WorkerServiceStub(channel)
                await call(stub.GetStatus, worker_pb2.GetStatusRequest(), peer="w", timeout_s=20)
                peer.send_signal(signal.SIGSTOP)
                started = now()
                with pytest.raises(Unavailable):
                    await wait_for_answer(stub, kind)
                assert now() - started < 4.0
        finally:
            peer.send_signal(signal.SIGCONT)
            peer.kill()
            await peer.wait()

    asyncio.run(asyncio.wait_for(body(), 60))
