"""Clients of several routers as a balancer serves them: each request goes to one whose health says SERVING."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.core.errors import BatonError
from services.local.answer import Answer
from services.local.client import RouterClient
from tests.cluster.house import CLOCK, Ask, Told

LOOK_EVERY_S = 0.1
"""A tenth of the notice that leaving routers give."""

LOOK_S = 5.0


class Balancer:
    """No retries: what fails at the router that was chosen has failed."""

    def __init__(self, addresses: list[str]) -> None:
        options = (("grpc.max_reconnect_backoff_ms", 500),)  # a router that comes back is found again
        self._channels = {address: grpc.aio.insecure_channel(address, options) for address in addresses}
        self._serving: set[str] = set()
        self._turn = 0

    async def ask(self, ask: Ask, *, timeout_s: float = 90.0) -> Told:
        told = Told(answer=Answer(CLOCK))
        serving = sorted(self._serving)
        assert serving, "no router serves"
        self._turn += 1
        address = serving[self._turn % len(serving)]
        client = RouterClient(address, self._channels[address])
        try:
            async for response in client.generate(ask.message(), timeout_s=timeout_s):
                told.times.append(CLOCK.monotonic())
                told.answer.take(response)
        except BatonError as error:
            told.error = error
        told.ended_at = CLOCK.monotonic()
        return told

    async def watch(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for address, channel in self._channels.items():
                group.create_task(self._watch_one(address, channel))

    async def _watch_one(self, address: str, channel: grpc.aio.Channel) -> None:
        while True:
            await self._look(address, channel)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look(self, address: str, channel: grpc.aio.Channel) -> None:
        try:
            said = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=LOOK_S)
            is_serving = said.status == health_pb2.HealthCheckResponse.SERVING
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return  # a slow machine says nothing about a router
            is_serving = False
        (self._serving.add if is_serving else self._serving.discard)(address)

    async def wait_serving(self, count: int) -> None:
        async with asyncio.timeout(30.0):
            while len(self._serving) < count:
                await asyncio.sleep(LOOK_EVERY_S)

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close(grace=None)


@asynccontextmanager
async def balancer(addresses: list[str]) -> AsyncIterator[Balancer]:
    made = Balancer(addresses)
    watching = asyncio.create_task(made.watch())
    try:
        await made.wait_serving(len(addresses))
        yield made
    finally:
        watching.cancel()
        await made.close()
