"""A router as the command line sees it: thin calls, errors as BatonErrors that say what to do."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

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
AGAIN_AFTER_S = 0.3
"""Chosen: three of the channel's first waits before it connects again."""
MAX_PORT = 65_535

Q = TypeVar("Q")
A = TypeVar("A")


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
        return await self._ask(stub.GetModel, generation_pb2.GetModelRequest())

    async def cluster(self) -> cluster_pb2.GetClusterResponse:
        stub = cluster_pb2_grpc.ClusterServiceStub(self.channel)
        return await self._ask(stub.GetCluster, cluster_pb2.GetClusterRequest())

    async def waterfall(self, request_id: str) -> cluster_pb2.GetWaterfallResponse:
        stub = cluster_pb2_grpc.ClusterServiceStub(self.channel)
        return await self._ask(stub.GetWaterfall, cluster_pb2.GetWaterfallRequest(request_id=request_id))

    async def explain(self, request_id: str) -> cluster_pb2.ExplainRequestResponse:
        stub = cluster_pb2_grpc.ClusterServiceStub(self.channel)
        return await self._ask(stub.ExplainRequest, cluster_pb2.ExplainRequestRequest(request_id=request_id))

    async def _ask(self, method: "grpc.aio.UnaryUnaryMultiCallable[Q, A]", request: Q) -> A:
        """What only asks is asked twice: one connection that breaks, on a busy machine, says nothing of the router."""
        with self._explained():
            try:
                return await call(method, request, peer=self.address, timeout_s=ASK_S)
            except Unavailable as error:
                if error.facts.get(ORIGIN_FACT) != TRANSPORT:
                    raise
            await asyncio.sleep(AGAIN_AFTER_S)
            return await call(method, request, peer=self.address, timeout_s=ASK_S)

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


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


@asynccontextmanager
async def router_client(address: str) -> AsyncIterator[RouterClient]:
    """A client for the block, with the certificate that the environment or `baton --tls` configures.

    Raises InvalidRequest for what is no address.
    """
    if not re.fullmatch(r"([^\s:]+|\[[0-9A-Fa-f:]+\]):[0-9]{1,5}", address) or not 0 < _port(address) <= MAX_PORT:
        violation = FieldViolation(field="--router", description=f"{address!r} is not like 127.0.0.1:7450")
        raise InvalidRequest(message="the router's address is HOST:PORT", violations=(violation,))
    tls = read_tls(load(None, environment()).cluster)
    channel = grpc_connect(Surface.CLIENT, tls)(address)
    try:
        yield RouterClient(address=address, channel=channel, connect_worker=grpc_connect(Surface.INTERNAL, tls))
    finally:
        await channel.close(grace=None)
