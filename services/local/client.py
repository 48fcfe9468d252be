"""A router as the command line sees it: thin calls, errors as BatonErrors that say what to do."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial

import grpc

from common.config.environment import environment
from common.config.loader import load
from common.core.errors import DeadlineExceeded, FieldViolation, InvalidRequest, Unavailable
from common.rpc.client import Connect, call, grpc_connect, stream
from common.rpc.errors import ORIGIN_FACT, TRANSPORT
from common.rpc.identity import read_tls
from common.rpc.options import Surface
from protos.baton.v1 import cluster_pb2, cluster_pb2_grpc, generation_pb2, generation_pb2_grpc

ASK_S = 5.0


@dataclass(frozen=True, slots=True)
class RouterClient:
    """One channel to one router. Made by `router_client`."""

    address: str
    channel: grpc.aio.Channel
    connect_worker: Connect = field(default_factory=partial(grpc_connect, Surface.INTERNAL))
    """To a worker of its cluster, with the same certificate."""

    async def generate(
        self, request: generation_pb2.GenerateRequest, *, timeout_s: float
    ) -> AsyncIterator[generation_pb2.GenerateResponse]:
        """The answer as it comes. Leaving the loop early cancels the request everywhere."""
        stub = generation_pb2_grpc.GenerationServiceStub(self.channel)
        has_begun = False
        try:
            with self._explained():
                async with stream(stub.Generate, request, peer=self.address, timeout_s=timeout_s) as responses:
                    async for response in responses:
                        has_begun = True
                        yield response
        except Unavailable as error:
            if not has_begun or error.facts.get(ORIGIN_FACT) != TRANSPORT:
                raise
            message = f"the router at {self.address} went away amid the answer"
            raise Unavailable(message=message, reason=error.reason, facts=error.facts) from error

    async def model(self) -> generation_pb2.GetModelResponse:
        stub = generation_pb2_grpc.GenerationServiceStub(self.channel)
        with self._explained():
            return await call(stub.GetModel, generation_pb2.GetModelRequest(), peer=self.address, timeout_s=ASK_S)

    async def cluster(self) -> cluster_pb2.GetClusterResponse:
        stub = cluster_pb2_grpc.ClusterServiceStub(self.channel)
        with self._explained():
            return await call(stub.GetCluster, cluster_pb2.GetClusterRequest(), peer=self.address, timeout_s=ASK_S)

    async def waterfall(self, request_id: str) -> cluster_pb2.GetWaterfallResponse:
        stub = cluster_pb2_grpc.ClusterServiceStub(self.channel)
        request = cluster_pb2.GetWaterfallRequest(request_id=request_id)
        with self._explained():
            return await call(stub.GetWaterfall, request, peer=self.address, timeout_s=ASK_S)

    async def explain(self, request_id: str) -> cluster_pb2.ExplainRequestResponse:
        stub = cluster_pb2_grpc.ClusterServiceStub(self.channel)
        request = cluster_pb2.ExplainRequestRequest(request_id=request_id)
        with self._explained():
            return await call(stub.ExplainRequest, request, peer=self.address, timeout_s=ASK_S)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """An error of the transport, in the words of somebody who does not know that there is one."""
        try:
            yield
        except (Unavailable, DeadlineExceeded) as error:
            if error.facts.get(ORIGIN_FACT) != TRANSPORT:
                raise
            message = f"no router answers at {self.address}: is `baton up` running? (another address: --router)"
            if isinstance(error, DeadlineExceeded):
                message = f"the deadline passed before {self.address} had answered in full"
            raise type(error)(message=message, reason=error.reason, facts=error.facts) from error


@asynccontextmanager
async def router_client(address: str) -> AsyncIterator[RouterClient]:
    """A client for the block, with the certificate that the environment or `baton --tls` configures.

    Raises InvalidRequest for what is no address.
    """
    if not re.fullmatch(r"[^\s:]+:[0-9]{1,5}|\[[0-9A-Fa-f:]+\]:[0-9]{1,5}", address):
        violation = FieldViolation(field="--router", description=f"{address!r} is not like 127.0.0.1:7450")
        raise InvalidRequest(message="the router's address is HOST:PORT", violations=(violation,))
    tls = read_tls(load(None, environment()).cluster)
    channel = grpc_connect(Surface.CLIENT, tls)(address)
    try:
        yield RouterClient(address=address, channel=channel, connect_worker=grpc_connect(Surface.INTERNAL, tls))
    finally:
        await channel.close(grace=None)
