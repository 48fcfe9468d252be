"""A router as the command line sees it: thin calls, errors as BatonErrors."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc

from common.rpc.client import call, grpc_connect, stream
from common.rpc.options import Surface
from protos.baton.v1 import cluster_pb2, cluster_pb2_grpc, generation_pb2, generation_pb2_grpc

ASK_S = 5.0


@dataclass(frozen=True, slots=True)
class RouterClient:
    """One channel to one router. Made by `router_client`."""

    address: str
    channel: grpc.aio.Channel

    async def generate(
        self, request: generation_pb2.GenerateRequest, *, timeout_s: float
    ) -> AsyncIterator[generation_pb2.GenerateResponse]:
        """The answer as it comes. Leaving the loop early cancels the request everywhere."""
        stub = generation_pb2_grpc.GenerationServiceStub(self.channel)
        async with stream(stub.Generate, request, peer=self.address, timeout_s=timeout_s) as responses:
            async for response in responses:
                yield response

    async def model(self) -> generation_pb2.GetModelResponse:
        stub = generation_pb2_grpc.GenerationServiceStub(self.channel)
        return await call(stub.GetModel, generation_pb2.GetModelRequest(), peer=self.address, timeout_s=ASK_S)

    async def cluster(self) -> cluster_pb2.GetClusterResponse:
        stub = cluster_pb2_grpc.ClusterServiceStub(self.channel)
        return await call(stub.GetCluster, cluster_pb2.GetClusterRequest(), peer=self.address, timeout_s=ASK_S)

    async def waterfall(self, request_id: str) -> cluster_pb2.GetWaterfallResponse:
        stub = cluster_pb2_grpc.ClusterServiceStub(self.channel)
        request = cluster_pb2.GetWaterfallRequest(request_id=request_id)
        return await call(stub.GetWaterfall, request, peer=self.address, timeout_s=ASK_S)

    async def explain(self, request_id: str) -> cluster_pb2.ExplainRequestResponse:
        stub = cluster_pb2_grpc.ClusterServiceStub(self.channel)
        request = cluster_pb2.ExplainRequestRequest(request_id=request_id)
        return await call(stub.ExplainRequest, request, peer=self.address, timeout_s=ASK_S)


@asynccontextmanager
async def router_client(address: str) -> AsyncIterator[RouterClient]:
    """A client for the block."""
    channel = grpc_connect(Surface.CLIENT)(address)
    try:
        yield RouterClient(address=address, channel=channel)
    finally:
        await channel.close(grace=None)
