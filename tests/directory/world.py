"""A directory in virtual time: a server, and workers and routers that join and die."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from common.directory.memory_store import MemoryServer, MemoryStore
from tests.directory.cluster import Router, Worker
from tests.sim.timeloop import LoopClock, TimeLoop, simulate


class World:
    """A server, its clock, and whoever joins."""

    def __init__(self, loop: TimeLoop) -> None:
        self.clock = LoopClock(loop)
        self.server = MemoryServer(self.clock)
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def worker(self, name: str = "decode-0", epoch: int = 1) -> Worker:
        """A worker whose registration runs."""
        worker = Worker(MemoryStore(self.server, name), self.clock, name, epoch)
        self.tasks[f"{name}/{epoch}"] = asyncio.create_task(worker.registration.run())
        return worker

    def router(self, name: str = "router-0") -> Router:
        """A router whose mirror runs."""
        router = Router(MemoryStore(self.server, name), self.clock)
        self.tasks[name] = asyncio.create_task(router.mirror.run())
        return router

    async def kill(self, task: str) -> None:
        """Like SIGKILL: no goodbye."""
        self.tasks[task].cancel()
        await asyncio.gather(self.tasks[task], return_exceptions=True)


@asynccontextmanager
async def world_of(loop: TimeLoop) -> AsyncIterator[World]:
    world = World(loop)
    yield world
    for task in world.tasks.values():
        task.cancel()
    ends = await asyncio.gather(*world.tasks.values(), return_exceptions=True)
    assert [end for end in ends if isinstance(end, Exception)] == []


def in_world(body: Callable[[World], Awaitable[None]], seed: int = 0) -> None:
    async def program(loop: TimeLoop) -> None:
        async with world_of(loop) as world:
            await body(world)

    simulate(program, seed=seed, limit_s=600)
