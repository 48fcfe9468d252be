"""Several routers, or gateways, as a balancer serves them: each request goes to one that says that it is ready."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.core.errors import BatonError
from services.local.answer import Answer
from services.local.client import RouterClient
from tests.cluster.house import CLOCK, PATIENCE_S, Ask, Told

LOOK_EVERY_S = 0.1
"""A fifth, at most, of the notice that leaving processes give."""

LOOK_S = 5.0


class Entrance(Protocol):
    """One process that clients may be sent to."""

    async def is_ready(self) -> bool | None:
        """None: it did not say in time, and a slow machine says nothing about a process."""
        ...

    async def ask(self, ask: Ask, told: Told, *, timeout_s: float) -> None:
        """Reads one answer to its end. Raises BatonError where that is not a good one."""
        ...

    async def close(self) -> None: ...


class RouterEntrance:
    """gRPC; its health service says whether it is ready."""

    def __init__(self, address: str) -> None:
        options = (("grpc.max_reconnect_backoff_ms", 500),)  # a router that comes back is found again
        self._channel = grpc.aio.insecure_channel(address, options)
        self._client = RouterClient(address, self._channel)

    async def is_ready(self) -> bool | None:
        try:
            health = health_pb2_grpc.HealthStub(self._channel)
            said = await health.Check(health_pb2.HealthCheckRequest(), timeout=LOOK_S)
        except grpc.aio.AioRpcError as error:
            return None if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED else False
        return bool(said.status == health_pb2.HealthCheckResponse.SERVING)

    async def ask(self, ask: Ask, told: Told, *, timeout_s: float) -> None:
        async for response in self._client.generate(ask.message(), timeout_s=timeout_s):
            told.answer.take(response)
            await told.note()

    async def close(self) -> None:
        await self._channel.close(grace=None)


class Balancer:
    """No retries: what fails where it was sent has failed."""

    def __init__(self, entrances: Sequence[Entrance]) -> None:
        self._entrances = entrances
        self._ready: set[int] = set()
        self._turn = 0

    async def ask(self, ask: Ask, *, timeout_s: float = 90.0) -> Told:
        told = Told(answer=Answer(CLOCK))
        ready = sorted(self._ready)
        assert ready, "nobody is ready"
        self._turn += 1
        try:
            await self._entrances[ready[self._turn % len(ready)]].ask(ask, told, timeout_s=timeout_s)
        except BatonError as error:
            told.error = error
        told.ended_at = CLOCK.monotonic()
        return told

    async def watch(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(len(self._entrances)):
                group.create_task(self._watch_one(number))

    async def _watch_one(self, number: int) -> None:
        while True:
            is_ready = await self._entrances[number].is_ready()
            if is_ready is not None:
                (self._ready.add if is_ready else self._ready.discard)(number)
            await asyncio.sleep(LOOK_EVERY_S)

    async def wait_ready(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while len(self._ready) < count:
                await asyncio.sleep(LOOK_EVERY_S)

    async def close(self) -> None:
        for entrance in self._entrances:
            await entrance.close()


@asynccontextmanager
async def balancer(entrances: Sequence[Entrance]) -> AsyncIterator[Balancer]:
    made = Balancer(entrances)
    watching = asyncio.create_task(made.watch())
    try:
        await made.wait_ready(len(entrances))
        yield made
    finally:
        watching.cancel()
        await made.close()
