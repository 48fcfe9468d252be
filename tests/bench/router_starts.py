"""What a request costs a router beside its tokens: `python -m tests.bench.router_starts [--waves 10] [--streams 500]`.

Waves of requests that want one token each, all of a wave at once, to a router on one core and the worker that only
writes. Given is the router's processor time per request from its arrival to its end, for prompts of 8 and of 1,024 ids.
Nothing is taken off for what a router does unasked.
"""

import argparse
import asyncio
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack
from itertools import cycle
from statistics import median
from typing import TYPE_CHECKING

import psutil

from common.observe.garbage import calm_collector
from services.local.bench.message_stream import MessageConnection, connected
from services.local.topology import Kind
from tests.bench.router_load import running
from tests.bench.router_load_streams import GENERATE, START_S, cpu_s, pin
from tests.cluster.house import Ask

if TYPE_CHECKING:
    from common.core.errors import BatonError

PROMPTS = (8, 1024)
OF_WINDOW = 25
"""Requests at once on one connection: of the longest prompts as many as its first window takes."""

STEPS_PER_S = 5.0
"""Of the worker. Chosen: a wave is in flight together, and waits for little."""


async def wave(connections: Iterator[MessageConnection], requests: list[bytes]) -> None:
    """All of them, to their ends."""
    over: asyncio.Queue[BatonError | None] = asyncio.Queue(len(requests))
    for request in requests:
        next(connections).call(GENERATE, request, lambda _message: None, over.put_nowait)
    async with asyncio.timeout(START_S):
        for _ in requests:
            if (error := await over.get()) is not None:
                raise error


def requests(count: int, length: int, chance: random.Random) -> list[bytes]:
    """Prompts that nobody has cached."""
    prompts = (tuple(chance.randrange(512) for _ in range(length)) for _ in range(count))
    return [Ask(tokens=prompt, max_tokens=1).message().SerializeToString() for prompt in prompts]


async def costs_ms(
    router: psutil.Process, connections: Iterator[MessageConnection], length: int, arguments: argparse.Namespace
) -> list[float]:
    """Per request, wave by wave. The first one warms up and is left out."""
    chance, costs = random.Random(length), []
    for _ in range(arguments.waves + 1):
        asked = requests(arguments.streams, length, chance)
        before_s = cpu_s(router)
        await wave(connections, asked)
        costs.append(1e3 * (cpu_s(router) - before_s) / len(asked))
    return costs[1:]


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--waves", type=int, default=10)
    arguments = parser.parse_args()
    arguments.routers, arguments.rate = 1, STEPS_PER_S
    calm_collector()
    async with running(arguments) as (cluster, worker), AsyncExitStack() as stack:
        router = psutil.Process(cluster.of(Kind.ROUTER)[0].child.pid)
        pin([router], [psutil.Process(), psutil.Process(worker.pid)])
        address = cluster.router_address(0)
        connections = cycle(
            [await stack.enter_async_context(connected(address)) for _ in range(arguments.streams // OF_WINDOW + 1)]
        )
        for length in PROMPTS:
            costs = await costs_ms(router, connections, length, arguments)
            print(
                f"{arguments.streams} at once, {length} ids: {median(costs):.2f} ms of CPU a request, "
                f"{min(costs):.2f} to {max(costs):.2f} in {len(costs)} waves"
            )


if __name__ == "__main__":
    asyncio.run(main())
