"""What a router costs per message: `python -m tests.bench.router_load [--streams 500] [--rate 20] [--seconds 10]`.

One router, one prefill and one decode worker of real processes, the workers simulated: a step of the decode worker
takes 1 / rate seconds whatever it holds, so `streams` answers come at `rate` tokens a second each. Given are the
router's CPU time per message to a client, and the time between two messages of a stream against the step. `--slow`
reads one message a second from each stream: the streams must hold. The router runs on the first core it may use, all
else on the others.

The bound: a bare grpc.aio server that only writes takes about 50 us of CPU per message on one such core.
"""

import argparse
import asyncio
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import psutil

from common.core.clock import SystemClock
from common.core.errors import BatonError
from services.local.client import RouterClient, router_client
from services.local.topology import Kind
from tests.cluster.house import Ask, House, house
from tests.cluster.load import percentile

PROMPT = 8
CHANNELS = 8
"""One HTTP/2 connection carries at most 100 streams by default."""

CLOCK = SystemClock()


@dataclass(slots=True)
class Reader:
    """One client."""

    times: list[float] = field(default_factory=list)
    num_tokens: int = 0
    error: BatonError | None = None

    async def read(self, client: RouterClient, ask: Ask, *, pause_s: float) -> None:
        try:
            async for response in client.generate(ask.message(), timeout_s=300.0):
                self.times.append(CLOCK.monotonic())
                self.num_tokens += sum(len(delta.token_ids) for delta in response.deltas)
                if pause_s:
                    await asyncio.sleep(pause_s)
        except BatonError as error:
            self.error = error


def gaps(readers: Sequence[Reader]) -> list[float]:
    """Between two messages of one stream, after its first few."""
    return [
        later - earlier
        for reader in readers
        for earlier, later in zip(reader.times[3:-1], reader.times[4:], strict=False)
    ]


async def load(cluster: House, arguments: argparse.Namespace) -> None:
    router = cluster.cluster.of(Kind.ROUTER)[0]
    process = psutil.Process(router.child.pid)
    _pin(process, [psutil.Process(), *(psutil.Process(each.child.pid) for each in cluster.workers())])
    chance = random.Random(7)
    length = int(arguments.rate * arguments.seconds)
    readers = [Reader() for _ in range(arguments.streams)]
    address = cluster.cluster.router_address()
    before = sum(process.cpu_times()[:2])
    began = CLOCK.monotonic()
    async with _Clients(address) as clients, asyncio.TaskGroup() as group:
        for number, reader in enumerate(readers):
            ask = Ask(tokens=tuple(chance.randrange(512) for _ in range(PROMPT)), max_tokens=length)
            client = clients[number % len(clients)]
            group.create_task(reader.read(client, ask, pause_s=1.0 if arguments.slow else 0.0))
        while any(not reader.times and reader.error is None for reader in readers):
            await asyncio.sleep(0.05)
        warm_at, warm_cpu = CLOCK.monotonic(), sum(process.cpu_times()[:2])
        await asyncio.sleep(arguments.seconds / 2)
        steady_s, steady_cpu = CLOCK.monotonic() - warm_at, sum(process.cpu_times()[:2]) - warm_cpu
        num_steady = sum(sum(warm_at <= at < warm_at + steady_s for at in reader.times) for reader in readers)
    messages = sum(len(reader.times) for reader in readers)
    errors = sum(reader.error is not None for reader in readers)
    cpu_s, all_s = sum(process.cpu_times()[:2]) - before, CLOCK.monotonic() - began
    between = gaps(readers)
    print(
        f"{arguments.streams} streams of {length} tokens in {all_s:.1f} s, {errors} errors; "
        f"{messages} messages, {cpu_s / messages * 1e6:.0f} us of router CPU each\n"
        f"steady: {num_steady / steady_s:.0f} messages/s, {steady_cpu / max(num_steady, 1) * 1e6:.0f} us of router CPU "
        f"each, {steady_cpu / steady_s:.2f} cores\n"
        f"between messages: p50 {percentile(between, 0.5) * 1e3:.1f} ms, p99 {percentile(between, 0.99) * 1e3:.1f} ms, "
        f"step {1e3 / arguments.rate:.1f} ms"
    )


def _pin(router: psutil.Process, others: Sequence[psutil.Process]) -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        router.cpu_affinity(cores[:1])
        for other in others:
            other.cpu_affinity(cores[1:])


class _Clients:
    """Several channels to one router."""

    def __init__(self, address: str) -> None:
        self._contexts = [router_client(address) for _ in range(CHANNELS)]

    async def __aenter__(self) -> list[RouterClient]:
        return [await context.__aenter__() for context in self._contexts]

    async def __aexit__(self, *error: object) -> None:
        for context in self._contexts:
            await context.__aexit__(None, None, None)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--slow", action="store_true")
    arguments = parser.parse_args()
    settings = (
        "engine.executor=sim",
        "engine.num_pages=65536",
        f"engine.sim_step_ms={1000 / arguments.rate}",
        f"engine.max_sequences={2 * arguments.streams}",
        f"engine.max_waiting={2 * arguments.streams}",
        "engine.max_batch_tokens=8192",
        "engine.local_extend_tokens=4096",
        f"router.max_active={2 * arguments.streams}",
        f"router.max_queue_standard={4 * arguments.streams}",
        "admission.ttft_standard_s=600",
    )
    async with house(settings=settings, ci_tier=False) as cluster:
        await load(cluster, arguments)


if __name__ == "__main__":
    asyncio.run(main())
