"""What a router costs per message: `python -m tests.bench.router_load [--streams 500] [--rate 20] [--seconds 10]`.

Real routers, and one worker that only writes (router_load_worker): `streams` answers come at `rate` tokens a second
each. Given are each router's CPU time per message to a client, and the time between two messages of a stream against
the period in which they are written. The router is pinned to the first core, worker and clients to the others.

Before that the same clients read a bare gRPC server that only writes (router_load_bare), pinned to the same core: what
the router adds is its figures less these. `--slow` reads one message a second from each stream: the streams must hold.

With `--routers 2` the same streams are measured on one router, then spread over two on a core each. Worker and clients
share those cores where there are no others; what counts is then messages per second of the routers' own CPU time.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import psutil

from common.config.loader import load
from common.core.clock import SystemClock
from common.core.entropy import SystemEntropy
from common.observe.garbage import calm_collector
from services.local.acquaintance import wait_acquainted
from services.local.cluster import LocalCluster, local_cluster
from services.local.topology import ROOT, Kind, Overrides
from tests.bench.router_load_streams import START_S, Reader, Window, asking, pin
from tests.cluster.house import Ask
from tests.cluster.ports import stable_port

PROMPT = 8
CLOCK = SystemClock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One measurement: all streams, on some servers."""

    window: Window
    readers: Sequence[Reader]
    errors: Sequence[str]
    start_s: float
    stream_bytes: float
    """A server's memory per stream."""

    def tell(self, what: str, period_s: float) -> None:
        print(
            f"{what}: {len(self.readers)} streams began within {self.start_s:.1f} s, "
            f"{len(self.errors)} errors {self.errors[:1] or ''}\n{self.window.line(self.readers, period_s=period_s)}; "
            f"{self.stream_bytes / 1024:.0f} KiB of its memory each"
        )


async def watch(
    servers: Mapping[str, psutil.Process],
    others: Mapping[str, psutil.Process],
    addresses: Sequence[str],
    arguments: argparse.Namespace,
) -> Seen:
    """All streams on these servers, each on a core of its own, at `addresses`."""
    processes = list(servers.values())
    clients = psutil.Process()
    pin(processes, [clients, *others.values()])
    chance = random.Random(7)
    length = int(arguments.rate * (arguments.seconds + START_S))
    readers = [Reader() for _ in range(arguments.streams)]
    asks = [Ask(tokens=tuple(chance.randrange(512) for _ in range(PROMPT)), max_tokens=length) for _ in readers]
    resting_bytes = sum(each.memory_info().rss for each in processes)
    began = CLOCK.monotonic()
    async with asking(addresses, readers, asks, is_slow=arguments.slow):
        async with asyncio.timeout(START_S):
            while any(not reader.times and not reader.error for reader in readers):
                await asyncio.sleep(0.05)
        await asyncio.sleep(1.0)
        start_s = CLOCK.monotonic() - began
        window = Window({**servers, **others, "clients": clients}, began=CLOCK.monotonic(), num_servers=len(servers))
        await asyncio.sleep(arguments.seconds)
        window.end(CLOCK.monotonic())
        return Seen(
            window=window,
            readers=readers,
            errors=[reader.error for reader in readers if reader.error],  # before they are sent away
            start_s=start_s,
            stream_bytes=(sum(each.memory_info().rss for each in processes) - resting_bytes) / arguments.streams,
        )


async def measure_bare(arguments: argparse.Namespace) -> Seen:
    """The control."""
    async with child("tests.bench.router_load_bare", f"--rate={arguments.rate}", stdout=PIPE) as bare:
        assert bare.stdout is not None
        async with asyncio.timeout(START_S):
            address = (await bare.stdout.readline()).decode().strip()
        return await watch({"bare server": psutil.Process(bare.pid)}, {}, [address], arguments)


async def measure(cluster: LocalCluster, worker: Process, arguments: argparse.Namespace, num_routers: int) -> Seen:
    """All streams on the first `num_routers` routers."""
    routers = {
        f"router-{number}": psutil.Process(each.child.pid)
        for number, each in enumerate(cluster.of(Kind.ROUTER)[:num_routers])
    }
    addresses = [cluster.router_address(number) for number in range(num_routers)]
    return await watch(routers, {"worker": psutil.Process(worker.pid)}, addresses, arguments)


def added(bare: Seen, routed: Seen) -> str:
    """What the router adds to a bare server."""
    gaps = [(seen.window.gap_ms(seen.readers, 0.5), seen.window.gap_ms(seen.readers, 0.99)) for seen in (bare, routed)]
    cost_us = routed.window.cost_us("router-0", routed.readers) - bare.window.cost_us("bare server", bare.readers)
    return (
        f"added by the router: between messages p50 {gaps[1][0] - gaps[0][0]:+.1f} ms, p99 "
        f"{gaps[1][1] - gaps[0][1]:+.1f} ms; {cost_us:+.0f} us of CPU a message"
    )


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
    options = [f"--rate={rate}", *(f"--set={each}" for each in settings)]
    async with child("tests.bench.router_load_worker", *options) as worker:
        yield worker


@asynccontextmanager
async def child(module: str, *options: str, stdout: int | None = None) -> AsyncIterator[Process]:
    """A process that ends with its input."""
    command = [sys.executable, "-m", module, *options]
    started = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=stdout, cwd=ROOT)
    try:
        yield started
    finally:
        assert started.stdin is not None
        started.stdin.close()
        await started.wait()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--routers", type=int, default=1)
    parser.add_argument("--slow", action="store_true")
    arguments = parser.parse_args()
    calm_collector()  # what is measured is the router's lateness
    period_s = 1 / arguments.rate
    bare = None if arguments.slow else await measure_bare(arguments)
    if bare is not None:
        bare.tell("bare", period_s)
    async with running(arguments) as (cluster, worker):
        alone = await measure(cluster, worker, arguments, 1)
        alone.tell("routed", period_s)
        if bare is not None:
            print(added(bare, alone))
        if arguments.routers > 1:
            together = await measure(cluster, worker, arguments, arguments.routers)
            together.tell(f"{arguments.routers} routers", period_s)
            rates = [seen.window.messages_per_cpu_s(seen.readers) for seen in (alone, together)]
            print(
                f"messages per second of CPU time: {rates[0]:.0f} alone, {rates[1]:.0f} together: "
                f"{rates[1] / rates[0]:.2f}x"
            )


if __name__ == "__main__":
    asyncio.run(main())
