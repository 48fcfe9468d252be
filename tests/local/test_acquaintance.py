"""A cluster that starts is not ended by one answer that does not come."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import grpc
import pytest

from common.core.errors import Unavailable
from common.rpc.bind import Bind
from common.rpc.options import Surface
from common.rpc.server import Service, serve
from protos.baton.v1 import cluster_pb2, cluster_pb2_grpc
from services.local.acquaintance import wait_acquainted
from services.local.client import router_client


class StartingRouter(cluster_pb2_grpc.ClusterServiceServicer):
    """Cannot be asked at first, then sees one worker, then two."""

    def __init__(self, num_failures: int, num_workers: int = 2) -> None:
        self.num_failures = num_failures
        self.num_workers = num_workers
        self.num_asked = 0

    async def GetCluster(
        self, request: cluster_pb2.GetClusterRequest, context: grpc.aio.ServicerContext
    ) -> cluster_pb2.GetClusterResponse:
        self.num_asked += 1
        if self.num_asked <= self.num_failures:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        num_seen = min(self.num_asked - self.num_failures, self.num_workers)
        return cluster_pb2.GetClusterResponse(workers=[cluster_pb2.WorkerView(state="ready")] * num_seen)


@asynccontextmanager
async def listening(router: StartingRouter) -> AsyncIterator[str]:
    add = partial(cluster_pb2_grpc.add_ClusterServiceServicer_to_server, router)
    service = Service(name="baton.v1.ClusterService", add=add)
    server = await serve([service], Bind(host="127.0.0.1", port=0), surface=Surface.CLIENT)
    try:
        yield server.address
    finally:
        await server.stop(0)


async def test_a_router_that_cannot_be_asked_for_a_moment_is_asked_again() -> None:
    router = StartingRouter(num_failures=2)
    async with listening(router) as address:
        await wait_acquainted(address, 2, timeout_s=20.0)
    assert router.num_asked == 4


async def test_a_command_asks_twice() -> None:
    """One connection that breaks says nothing of the router; two failures do."""
    async with listening(StartingRouter(num_failures=1)) as address, router_client(address) as client:
        assert len((await client.cluster()).workers) == 1
    router = StartingRouter(num_failures=2)
    async with listening(router) as address, router_client(address) as client:
        with pytest.raises(Unavailable, match="no router answers"):
            await client.cluster()
    assert router.num_asked == 2


async def test_a_router_that_does_not_see_all_of_them_is_told_of_in_the_end() -> None:
    async with listening(StartingRouter(num_failures=0, num_workers=1)) as address:
        with pytest.raises(Unavailable, match=r"after 1 s .* sees 1 of 2 workers"):
            await wait_acquainted(address, 2, timeout_s=1.0)


async def test_a_router_that_is_gone_is_told_of_in_the_end() -> None:
    async with listening(StartingRouter(num_failures=0)) as address:
        pass
    with pytest.raises(Unavailable, match="sees 0 of 2 workers"):
        await wait_acquainted(address, 2, timeout_s=0.3)
