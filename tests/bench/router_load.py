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
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import psutil

from common.core.clock import SystemClock
from common.core.errors import BatonError
from protos.baton.v1 import generation_pb2
from services.local.bench.message_stream import connected
from services.local.client import RouterClient, router_client
from services.local.topology import Kind
from tests.cluster.house import Ask, House, house
from tests.cluster.load import percentile

PROMPT = 8
CHANNELS = 8
"""Connections. One router's limit on streams of a connection lies far above."""

START_S = 60.0
"""Chosen: so long may the streams take to begin; they are long enough to go on until the end."""

GENERATE = "/baton.v1.GenerationService/Generate"
CLOCK = SystemClock()


@dataclass(slots=True)
class Reader:
    """One client. Checks what it reads: a token that is missing or comes twice is an error."""

    times: list[float] = field(default_factory=list)
    num_tokens: int = 0
    error: str = ""

    def take(self, message: bytes) -> None:
        self.times.append(CLOCK.monotonic())
        for delta in generation_pb2.GenerateResponse.FromString(message).deltas:
            if delta.first_index != self.num_tokens:
                self.error = f"token {delta.first_index} came after {self.num_tokens} tokens"
            self.num_tokens += delta.num_tokens

    def end(self, error: BatonError | None) -> None:
        self.error = self.error or ("" if error is None else error.message)

    async def read_slowly(self, client: RouterClient, ask: Ask) -> None:
        """One message a second: grpc's own client holds the others up."""
        try:
            async for response in client.generate(ask.message(), timeout_s=300.0):
                self.times.append(CLOCK.monotonic())
                self.num_tokens += sum(delta.num_tokens for delta in response.deltas)
                await asyncio.sleep(1.0)
        except BatonError as error:
            self.error = error.message


async def load(cluster: House, arguments: argparse.Namespace) -> None:
    router = cluster.cluster.of(Kind.ROUTER)[0]
    process, own = psutil.Process(router.child.pid), psutil.Process()
    workers = [psutil.Process(each.child.pid) for each in cluster.workers()]
    _pin(process, [own, *workers])
    watched = {"router": [process], "workers": workers, "clients": [own]}
    chance = random.Random(7)
    length = int(arguments.rate * (arguments.seconds + START_S))
    readers = [Reader() for _ in range(arguments.streams)]
    asks = [Ask(tokens=tuple(chance.randrange(512) for _ in range(PROMPT)), max_tokens=length) for _ in readers]
    address = cluster.cluster.router_address()
    began = CLOCK.monotonic()
    async with asking(address, readers, asks, is_slow=arguments.slow):
        async with asyncio.timeout(START_S):
            while any(not reader.times and not reader.error for reader in readers):
                await asyncio.sleep(0.05)
        await asyncio.sleep(1.0)
        start_s = CLOCK.monotonic() - began
        window = Window(watched, began=CLOCK.monotonic())
        await asyncio.sleep(arguments.seconds)
        window.end(CLOCK.monotonic())
        errors = [reader.error for reader in readers if reader.error]  # before they are sent away
    print(f"{arguments.streams} streams began within {start_s:.1f} s, {len(errors)} errors {errors[:1] or ''}")
    print(window.line(readers, step_s=1 / arguments.rate))


class Window:
    """The time in which everything is counted: all streams run from its begin to its end."""

    def __init__(self, processes: Mapping[str, Sequence[psutil.Process]], *, began: float) -> None:
        self._processes = processes
        self._began = self._ended = began
        self._cpu_s = {name: -cpu_s(each) for name, each in processes.items()}

    def end(self, now: float) -> None:
        self._ended = now
        for name, each in self._processes.items():
            self._cpu_s[name] += cpu_s(each)

    def line(self, readers: Sequence[Reader], *, step_s: float) -> str:
        times = [[at for at in reader.times if self._began <= at < self._ended] for reader in readers]
        num_messages, seconds = max(sum(map(len, times)), 1), self._ended - self._began
        gaps = [later - earlier for each in times for earlier, later in pairwise(each)]
        costs = ", ".join(
            f"{name} {used_s / num_messages * 1e6:.0f} us each, {used_s / seconds:.2f} cores"
            for name, used_s in self._cpu_s.items()
        )
        return (
            f"{num_messages / seconds:.0f} messages/s; CPU: {costs}\n"
            f"between messages: p50 {percentile(gaps, 0.5) * 1e3:.1f} ms, p99 {percentile(gaps, 0.99) * 1e3:.1f} ms, "
            f"step {step_s * 1e3:.1f} ms"
        )


def cpu_s(processes: Sequence[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


@asynccontextmanager
async def asking(address: str, readers: Sequence[Reader], asks: Sequence[Ask], *, is_slow: bool) -> AsyncIterator[None]:
    """All requests sent, over several connections."""
    async with AsyncExitStack() as stack:
        if is_slow:
            clients = [await stack.enter_async_context(router_client(address)) for _ in range(CHANNELS)]
            group = await stack.enter_async_context(asyncio.TaskGroup())
            tasks = [
                group.create_task(reader.read_slowly(clients[number % CHANNELS], ask))
                for number, (reader, ask) in enumerate(zip(readers, asks, strict=True))
            ]
            stack.callback(lambda: [task.cancel() for task in tasks])
        else:
            connections = [await stack.enter_async_context(connected(address)) for _ in range(CHANNELS)]
            for number, (reader, ask) in enumerate(zip(readers, asks, strict=True)):
                request = ask.message().SerializeToString()
                connections[number % CHANNELS].call(GENERATE, request, reader.take, reader.end)
        yield


def _pin(router: psutil.Process, others: Sequence[psutil.Process]) -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        router.cpu_affinity(cores[:1])
        for other in others:
            other.cpu_affinity(cores[1:])


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
        f"engine.max_sequences={2 * arguments.streams}",
        f"engine.max_waiting={2 * arguments.streams}",
        "engine.max_batch_tokens=8192",
        "engine.local_extend_tokens=4096",
        f"router.max_active={2 * arguments.streams}",
        f"router.max_queue_standard={4 * arguments.streams}",
        "admission.ttft_standard_s=600",
    )
    pace = {"decode-0": (f"engine.sim_step_ms={1000 / arguments.rate}",)}
    async with house(settings=settings, ci_tier=False, of_process=pace) as cluster:
        await load(cluster, arguments)


if __name__ == "__main__":
    asyncio.run(main())
