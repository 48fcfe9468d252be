"""Goal: several routers behind one name are one: each gets its share, and one that leaves takes no request with it.

Method: real servers and a real channel; what the routers say is scripted.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from common.core.clock import Clock, ManualClock
from common.core.errors import ELSEWHERE_FACT, Reason, Refused, Unavailable
from common.rpc.bind import Bind
from common.rpc.client import grpc_connect
from common.rpc.options import Surface
from common.rpc.server import RpcServer, Service, serve
from protos.baton.v1 import generation_pb2, generation_pb2_grpc
from services.gateway.routers import Routers
from tests.gateway.house import ScriptedRouter, say

LEAVING = Unavailable(message="this router is leaving", reason=Reason.DRAINING, retry_after_s=1.0)


@asynccontextmanager
async def two(
    first: ScriptedRouter, second: ScriptedRouter, clock: Clock | None = None
) -> AsyncIterator[tuple[Routers, list[RpcServer]]]:
    """Routers behind one target, as a name with two addresses would be."""
    servers = []
    for router in (first, second):
        add = partial(generation_pb2_grpc.add_GenerationServiceServicer_to_server, router)
        service = Service(name="baton.v1.GenerationService", add=add)
        servers.append(await serve([service], Bind(host="127.0.0.1", port=0), surface=Surface.CLIENT))
    target = "ipv4:" + ",".join(server.address for server in servers)
    routers = Routers(target, grpc_connect(Surface.CLIENT, is_spread=True), clock=clock)
    try:
        yield routers, servers
    finally:
        await routers.close()
        for server in servers:
            await server.stop(0)


async def generate(routers: Routers) -> int:
    request = generation_pb2.GenerateRequest(request_id="r")
    return len([response async for response in routers.generate(request, timeout_s=10.0)])


async def test_each_router_gets_its_share():
    first, second = ScriptedRouter([say("a")]), ScriptedRouter([say("a")])
    async with two(first, second) as (routers, _):
        while not (first.asked and second.asked):  # connected one after the other; then in turn
            assert await generate(routers) == 1
        before = len(first.asked), len(second.asked)
        for _ in range(8):
            await generate(routers)
        assert (len(first.asked) - before[0], len(second.asked) - before[1]) == (4, 4)


async def test_another_try_gets_what_is_left_of_the_time():
    """Goal: who gave a deadline is answered by then, however many routers are asked. Each try costs three seconds."""
    clock = ManualClock()

    class Slow(ScriptedRouter):
        async def Generate(self, request, context):
            left.append(context.time_remaining())
            clock.advance(3.0)
            raise LEAVING
            yield  # which makes it a stream

    left: list[float] = []
    async with two(Slow(), Slow(), clock) as (routers, _):
        with pytest.raises(Unavailable):
            await generate(routers)
    assert [round(each) for each in left] == [10, 7, 4, 1]


async def test_a_router_that_has_none_of_a_tenants_limit_is_passed_over():
    elsewhere = Refused(message="none here", reason=Reason.RATE_LIMITED, facts={ELSEWHERE_FACT: "1"})
    async with two(ScriptedRouter([elsewhere]), ScriptedRouter([say("a")])) as (routers, _):
        for _ in range(4):
            assert await generate(routers) == 1


async def test_a_router_that_leaves_is_passed_over():
    first, second = ScriptedRouter([LEAVING]), ScriptedRouter([say("a")])
    async with two(first, second) as (routers, servers):
        for _ in range(4):
            assert await generate(routers) == 1
        await servers[0].set_serving(False)
        await servers[1].set_serving(True)
        await servers[0].stop(0)
        for _ in range(4):
            assert await generate(routers) == 1


async def test_what_was_begun_or_refused_for_good_is_not_asked_again():
    broken = ScriptedRouter([say("a"), LEAVING])
    async with two(broken, broken) as (routers, _):
        with pytest.raises(Unavailable):
            await generate(routers)
        assert len(broken.asked) == 1
    full = ScriptedRouter([Refused(message="full", reason=Reason.QUEUE_FULL, retry_after_s=1.0)])
    async with two(full, full) as (routers, _):
        with pytest.raises(Refused):
            await generate(routers)
        assert len(full.asked) == 1


async def test_a_question_is_asked_of_another_router_when_one_leaves_or_has_gone():
    """Every few seconds a request asks first which model is served: it should not be the one that fails."""

    class Leaving(ScriptedRouter):
        async def GetModel(self, request, context):
            raise LEAVING

        async def Tokenize(self, request, context):
            raise LEAVING

    bare = generation_pb2.TokenizeRequest(text="abc")
    async with two(Leaving(), ScriptedRouter()) as (routers, servers):
        for _ in range(4):
            assert (await routers.model()).name == "tiny"
            assert await routers.tokenize(bare) == [3, 0]
        await servers[0].stop(0)
        for _ in range(4):
            assert (await routers.model()).name == "tiny"
    async with two(Leaving(), Leaving()) as (routers, _):
        with pytest.raises(Unavailable):
            await routers.model()
