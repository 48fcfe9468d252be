"""What every listener has."""

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from common.core.errors import Reason, StartupError, Unavailable
from common.rpc.bind import Bind
from common.rpc.client import call, grpc_connect
from common.rpc.options import Surface
from common.rpc.server import RpcServer, serve
from protos.baton.v1 import worker_pb2, worker_pb2_grpc
from tests.rpc.process import PickyServicer, worker_service

NAME = "baton.v1.WorkerService"


def with_server(test: Callable[[RpcServer, grpc.aio.Channel], Awaitable[None]], *, reflection: bool = True) -> None:
    async def body() -> None:
        server = await serve(
            [worker_service(PickyServicer())], Bind(), surface=Surface.INTERNAL, with_reflection=reflection
        )
        async with grpc_connect(Surface.INTERNAL)(server.address) as channel:
            await test(server, channel)
        await server.stop(0)

    asyncio.run(asyncio.wait_for(body(), 30))


async def reflected(channel: grpc.aio.Channel) -> list[str]:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)

    async def requests():  # type: ignore[no-untyped-def]
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    answers = [answer async for answer in stub.ServerReflectionInfo(requests(), timeout=5)]
    return [service.name for answer in answers for service in answer.list_services_response.service]


def test_port_zero_becomes_a_real_port() -> None:
    async def body(server: RpcServer, _: grpc.aio.Channel) -> None:
        assert server.port > 0
        assert server.address == f"127.0.0.1:{server.port}"

    with_server(body)


def test_a_taken_port_is_a_startup_error() -> None:
    async def body(server: RpcServer, _: grpc.aio.Channel) -> None:
        with pytest.raises(StartupError, match=str(server.port)):
            await serve([], Bind(port=server.port), surface=Surface.INTERNAL)

    with_server(body)


def test_health_answers_per_service_and_follows_the_server() -> None:
    async def body(server: RpcServer, channel: grpc.aio.Channel) -> None:
        stub = health_pb2_grpc.HealthStub(channel)

        async def status(name: str) -> int:
            return int((await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)).status)

        assert await status("") == await status(NAME) == health_pb2.HealthCheckResponse.SERVING
        await server.set_serving(False)
        assert await status("") == await status(NAME) == health_pb2.HealthCheckResponse.NOT_SERVING

    with_server(body)


def test_a_server_that_is_not_ready_says_so_from_its_first_moment() -> None:
    async def body() -> None:
        server = await serve([worker_service(PickyServicer())], Bind(), surface=Surface.INTERNAL, is_serving=False)
        async with grpc_connect(Surface.INTERNAL)(server.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            for is_serving in (False, True):
                if is_serving:
                    await server.set_serving(True)
                for name in ("", NAME):
                    answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
                    assert (answer.status == health_pb2.HealthCheckResponse.SERVING) is is_serving
        await server.stop(0)

    asyncio.run(asyncio.wait_for(body(), 30))


def test_reflection_lists_services_until_it_is_switched_off() -> None:
    async def listed(_: RpcServer, channel: grpc.aio.Channel) -> None:
        assert NAME in await reflected(channel)

    async def hidden(_: RpcServer, channel: grpc.aio.Channel) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await reflected(channel)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

    with_server(listed)
    with_server(hidden, reflection=False)


def test_a_graceful_stop_lets_calls_finish_and_refuses_new_ones() -> None:
    async def body(server: RpcServer, channel: grpc.aio.Channel) -> None:
        stub = worker_pb2_grpc.WorkerServiceStub(channel)
        running = stub.Subscribe(worker_pb2.SubscribeRequest(router={"router_id": "ends"}))
        responses = aiter(running)
        first = await anext(responses)
        stopping = asyncio.create_task(server.stop(5))
        rest = [response.sequence async for response in responses]
        await stopping
        assert [first.sequence, *rest] == [1, 2, 3]
        with pytest.raises(Unavailable):
            await call(stub.GetStatus, worker_pb2.GetStatusRequest(), peer="w", timeout_s=5)

    with_server(body)


def test_calls_that_outlive_the_grace_are_told_that_the_process_is_stopping(caplog: pytest.LogCaptureFixture) -> None:
    async def body(server: RpcServer, channel: grpc.aio.Channel) -> None:
        stub = worker_pb2_grpc.WorkerServiceStub(channel)
        endless = stub.Subscribe(worker_pb2.SubscribeRequest())
        responses = aiter(endless)
        await anext(responses)
        waiting = asyncio.create_task(call(stub.Drain, worker_pb2.DrainRequest(), peer="w", timeout_s=20))
        await asyncio.sleep(0.1)
        await server.stop(0.1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in responses:
                pass
        with pytest.raises(Unavailable) as told:
            await waiting
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert told.value.reason is Reason.DRAINING

    with_server(body)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
