"""What a router costs per message: `python -m tests.bench.router_load [--streams 500] [--rate 20] [--seconds 10]`.

Real routers, and one worker that only writes (router_load_worker): `streams` answers come at `rate` tokens a second
each. Given are each router's CPU time per message to a client, and the time between two messages of a stream against
the period in which they are written. The router is pinned to the first core, worker and clients to the others. `--slow`
reads one message a second from each stream: the streams must hold.

With `--routers 2` the same streams are measured on one router, then spread over two on a core each. Worker and clients
share those cores where there are no others; what counts is then messages per second of the routers' own CPU time.

The bound: a bare grpc.aio server that only writes takes about 40 us of CPU per message on one such core.
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise

import psutil

from common.config.loader import load
from common.core.clock import SystemClock
from common.core.entropy import SystemEntropy
from common.core.errors import BatonError
from common.observe.garbage import calm_collector
from protos.baton.v1 import generation_pb2
from services.local.acquaintance import wait_acquainted
from services.local.bench.message_stream import connected
from services.local.client import RouterClient, router_client
from services.local.cluster import LocalCluster, local_cluster
from services.local.topology import ROOT, Kind, Overrides
from tests.cluster.house import Ask
from tests.cluster.load import percentile
from tests.cluster.ports import stable_port

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


async def measure(cluster: LocalCluster, worker: Process, arguments: argparse.Namespace, num_routers: int) -> float:
    """All streams on the first `num_routers` routers. Messages per second of a router's CPU time, over all of them."""
    routers = [psutil.Process(each.child.pid) for each in cluster.of(Kind.ROUTER)[:num_routers]]
    writing, own = psutil.Process(worker.pid), psutil.Process()
    _pin(routers, [own, writing])
    watched = {f"router-{number}": each for number, each in enumerate(routers)} | {"worker": writing, "clients": own}
    chance = random.Random(7)
    length = int(arguments.rate * (arguments.seconds + START_S))
    readers = [Reader() for _ in range(arguments.streams)]
    asks = [Ask(tokens=tuple(chance.randrange(512) for _ in range(PROMPT)), max_tokens=length) for _ in readers]
    addresses = [cluster.router_address(number) for number in range(num_routers)]
    resting_bytes = sum(router.memory_info().rss for router in routers)
    began = CLOCK.monotonic()
    async with asking(addresses, readers, asks, is_slow=arguments.slow):
        async with asyncio.timeout(START_S):
            while any(not reader.times and not reader.error for reader in readers):
                await asyncio.sleep(0.05)
        await asyncio.sleep(1.0)
        start_s = CLOCK.monotonic() - began
        window = Window(watched, began=CLOCK.monotonic())
        await asyncio.sleep(arguments.seconds)
        window.end(CLOCK.monotonic())
        stream_bytes = (sum(router.memory_info().rss for router in routers) - resting_bytes) / arguments.streams
        errors = [reader.error for reader in readers if reader.error]  # before they are sent away
    print(f"{arguments.streams} streams began within {start_s:.1f} s, {len(errors)} errors {errors[:1] or ''}")
    print(
        f"{window.line(readers, period_s=1 / arguments.rate)}; {stream_bytes / 1024:.0f} KiB of a router's memory each"
    )
    shares = [readers[number::num_routers] for number in range(num_routers)]
    return sum(window.messages_per_cpu_s(f"router-{number}", share) for number, share in enumerate(shares))


class Window:
    """The time in which everything is counted: all streams run from its begin to its end."""

    def __init__(self, processes: Mapping[str, psutil.Process], *, began: float) -> None:
        self._processes = processes
        self._began = self._ended = began
        self._cpu_s = {name: -cpu_s(each) for name, each in processes.items()}

    def end(self, now: float) -> None:
        self._ended = now
        for name, each in self._processes.items():
            self._cpu_s[name] += cpu_s(each)

    def messages_per_cpu_s(self, name: str, readers: Sequence[Reader]) -> float:
        return sum(map(len, self._times(readers))) / self._cpu_s[name]

    def line(self, readers: Sequence[Reader], *, period_s: float) -> str:
        times = self._times(readers)
        num_messages, seconds = max(sum(map(len, times)), 1), self._ended - self._began
        gaps = [later - earlier for each in times for earlier, later in pairwise(each)]
        num_routers = sum(name.startswith("router") for name in self._cpu_s)
        shares = {name: num_messages / (num_routers if name.startswith("router") else 1) for name in self._cpu_s}
        costs = ", ".join(
            f"{name} {used_s / shares[name] * 1e6:.0f} us a message, {used_s / seconds:.2f} cores"
            for name, used_s in self._cpu_s.items()
        )
        return (
            f"{num_messages / seconds:.0f} messages/s; CPU: {costs}\n"
            f"between messages: p50 {percentile(gaps, 0.5) * 1e3:.1f} ms, p99 {percentile(gaps, 0.99) * 1e3:.1f} ms, "
            f"written every {period_s * 1e3:.1f} ms"
        )

    def _times(self, readers: Sequence[Reader]) -> list[list[float]]:
        return [[at for at in reader.times if self._began <= at < self._ended] for reader in readers]


def cpu_s(process: psutil.Process) -> float:
    return sum(process.cpu_times()[:2])


@asynccontextmanager
async def asking(
    addresses: Sequence[str], readers: Sequence[Reader], asks: Sequence[Ask], *, is_slow: bool
) -> AsyncIterator[None]:
    """All requests sent, to each router in turn, over several connections each."""
    places = [address for _ in range(CHANNELS) for address in addresses]
    async with AsyncExitStack() as stack:
        if is_slow:
            clients = [await stack.enter_async_context(router_client(address)) for address in places]
            group = await stack.enter_async_context(asyncio.TaskGroup())
            tasks = [
                group.create_task(reader.read_slowly(clients[number % len(places)], ask))
                for number, (reader, ask) in enumerate(zip(readers, asks, strict=True))
            ]
            stack.callback(lambda: [task.cancel() for task in tasks])
        else:
            connections = [await stack.enter_async_context(connected(address)) for address in places]
            for number, (reader, ask) in enumerate(zip(readers, asks, strict=True)):
                request = ask.message().SerializeToString()
                connections[number % len(places)].call(GENERATE, request, reader.take, reader.end)
        yield


def _pin(routers: Sequence[psutil.Process], others: Sequence[psutil.Process]) -> None:
    """Each router to a core, with every thread that it has; the others to the rest, if there is one."""
    cores = sorted(os.sched_getaffinity(os.getppid()))
    taken = cores[: len(routers)]
    places = [(router, [core]) for router, core in zip(routers, taken, strict=False)]
    places += [(other, cores[len(taken) :] or cores) for other in others]
    for process, where in places:
        for thread in process.threads():
            with suppress(ProcessLookupError):  # it ended
                os.sched_setaffinity(thread.id, where)


@asynccontextmanager
async def running(arguments: argparse.Namespace) -> AsyncIterator[tuple[LocalCluster, Process]]:
    """Routers, Valkey, and the worker that only writes."""
    with tempfile.TemporaryDirectory(prefix="baton-test-") as run_dir:
        settings = (
            "local.gateways=0",
            f"local.routers={arguments.routers}",
            f"local.run_dir={run_dir}",
            f"router.hold_s={START_S}",  # ready before the worker is
            f"router.max_active={2 * arguments.streams}",
            f"router.max_queue_standard={4 * arguments.streams}",
            "admission.ttft_standard_s=600",
        )
        config = load(settings=settings)
        context = local_cluster(
            replace(config, local=replace(config.local, prefill=0, decode=0)),  # no person may ask for that
            Overrides(settings=settings),
            clock=CLOCK,
            entropy=SystemEntropy(),
            tell=lambda _said: None,
            first_router_port=stable_port(),
        )
        async with context as cluster, writing_worker(cluster, arguments.rate) as worker:
            for number in range(arguments.routers):
                await wait_acquainted(cluster.router_address(number), 1, START_S)
            yield cluster, worker


@asynccontextmanager
async def writing_worker(cluster: LocalCluster, rate: float) -> AsyncIterator[Process]:
    settings = (
        f"cluster.redis_url={cluster.valkey.url}",
        "cluster.redis_login=role",
        f"cluster.secret_file={cluster.run_dir / 'secret'}",
    )
    command = [sys.executable, "-m", "tests.bench.router_load_worker", f"--rate={rate}"]
    worker = await asyncio.create_subprocess_exec(
        *command, *(f"--set={each}" for each in settings), stdin=PIPE, cwd=ROOT
    )
    try:
        yield worker
    finally:
        assert worker.stdin is not None
        worker.stdin.close()
        await worker.wait()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--routers", type=int, default=1)
    parser.add_argument("--slow", action="store_true")
    arguments = parser.parse_args()
    calm_collector()  # what is measured is the router's lateness
    async with running(arguments) as (cluster, worker):
        alone = await measure(cluster, worker, arguments, 1)
        if arguments.routers > 1:
            together = await measure(cluster, worker, arguments, arguments.routers)
            print(
                f"messages per second of CPU time: {alone:.0f} alone, {together:.0f} together: {together / alone:.2f}x"
            )


if __name__ == "__main__":
    asyncio.run(main())
