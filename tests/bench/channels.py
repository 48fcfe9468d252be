"""What carries pages fastest, and for how much CPU: `python -m tests.bench.channels [--rounds 5] [--out FILE]`.

Two processes, whole endpoints over gRPC, every byte digested, verified and landed by one copy into pages; gloo and
shared memory in turns, so that a busy machine is busy for both. The bound comes first: one thread's copy and digest
rates, from the same run. A hand-off is timed from the first `ship` to the word that the last page has landed. Before it
the wire alone, both ends in one process: frames of 8 MiB, without offers and digests.
"""

import argparse
import asyncio
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from common.core.clock import SystemClock
from common.core.ids import Epoch, RequestId, ReservationId, TransferId, WorkerId, WorkerRef
from common.kv.digest import DigestKey, digest_pages
from common.kv.staging import StagingPool
from common.transfer.berth import find_berth
from common.transfer.channel import Channel
from common.transfer.endpoint import KvEndpoint
from common.transfer.expectation import Arrival, Expectation
from common.transfer.gloo import GlooFactory
from common.transfer.messages import Finale, Outcome, PageRun
from common.transfer.plan import split
from tests.transfer.test_channel_conformance import opened, shared_memory
from tests.transfer.two_processes import LAYOUT, working

PAGE = LAYOUT.page_bytes
RUN_PAGES = 20
SIZES = {"1k tokens": 64, "8k tokens": 512}
"""Pages of model S in bf16: 12 and 96 MiB."""
FRAME, FRAMES = 8 << 20, 20
CHANNELS = ("gloo", "same_host")
CLOCK = SystemClock()


class Landing:
    """Lands every run by one copy, as decode's storage does, and says when all is there."""

    def __init__(self, endpoint: KvEndpoint) -> None:
        self._endpoint = endpoint
        self._pages = np.zeros(max(SIZES.values()) * PAGE, dtype=np.uint8)

    def on_run(self, arrival: Arrival) -> None:
        data = np.frombuffer(arrival.data, dtype=np.uint8)
        start = arrival.run.first_page * PAGE
        np.copyto(self._pages[start : start + len(data)], data)
        del data
        self._endpoint.inbound.landed(arrival)

    def on_finale(self, transfer: TransferId, finale: Finale) -> None: ...

    def on_failed(self, transfer: TransferId, outcome: Outcome) -> None:
        print(f"failed: {outcome.message}", file=sys.stderr, flush=True)


async def receive(channel: str) -> None:
    """The child: expects whatever is asked for on stdin, one line each, and answers with the CPU it has used."""
    async with working("d", channel) as (endpoint, address):
        sink = Landing(endpoint)
        print(endpoint.me.worker, endpoint.me.epoch, address, flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            name, pages = line.split()
            transfer = TransferId(reservation=ReservationId(name), attempt=1)
            expectation = Expectation(
                transfer=transfer, request=RequestId(name), total_pages=int(pages), held_pages=0, page_bytes=PAGE
            )
            endpoint.inbound.expect(expectation, sink)
            print(cpu_s(), flush=True)


class Sender:
    """The parent's half of one channel."""

    def __init__(self, endpoint: KvEndpoint, child: subprocess.Popen[str], receiver: WorkerRef) -> None:
        self._endpoint = endpoint
        self._child = child
        self._receiver = receiver
        self._count = 0
        self._buffers = [memoryview(bytearray(os.urandom(RUN_PAGES * PAGE))) for _ in range(4)]

    def ask(self, pages: int) -> float:
        """Has the next hand-off expected; the child's CPU seconds so far."""
        self._count += 1
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(f"res-{self._count} {pages}\n")
        self._child.stdin.flush()
        return float(self._child.stdout.readline())

    async def hand_off(self, pages: int) -> tuple[float, float]:
        """Seconds, and CPU seconds of both processes."""
        before = self.ask(pages) + cpu_s()
        name = f"res-{self._count}"
        transfer = self._endpoint.start(TransferId(ReservationId(name), 1), RequestId(name), self._receiver)
        began = CLOCK.monotonic()
        async with asyncio.TaskGroup() as group:
            for number, run in enumerate(split(PageRun(first_page=0, num_pages=pages), RUN_PAGES)):
                data = self._buffers[number % len(self._buffers)][: run.num_pages * PAGE]
                group.create_task(transfer.ship(run, data))
        await transfer.finish(Finale(first_tokens=(), total_pages=pages))
        outcome = await transfer.wait_outcome(10.0)
        seconds = CLOCK.monotonic() - began
        assert outcome.landed_pages == pages, outcome
        used = self.ask(1) + cpu_s() - before
        return seconds, used


async def wire(rounds: int) -> dict[str, dict[str, float]]:
    """The channels without what surrounds them, in turns: the best rate, its median, and CPU seconds."""
    data, staging = memoryview(bytearray(os.urandom(FRAME))), StagingPool(4, FRAME)
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in CHANNELS}
    async with opened(GlooFactory()) as gloo, opened(shared_memory(), 2) as same_host:
        for number in range(rounds + 1):
            for name, ends in zip(CHANNELS, (gloo, same_host), strict=True):
                used, began = cpu_s(), CLOCK.monotonic()
                for frame in range(number * FRAMES, (number + 1) * FRAMES):
                    await carry(ends, frame, data, staging)
                samples[name].append((CLOCK.monotonic() - began, cpu_s() - used))
    num_bytes = FRAMES * FRAME
    found: dict[str, dict[str, float]] = {}
    for name, (_, *each) in samples.items():  # the first round touches the memory
        found[f"wire {name}"] = {
            "best GB/s": num_bytes / min(seconds for seconds, _ in each) / 1e9,
            "median GB/s": num_bytes / statistics.median(seconds for seconds, _ in each) / 1e9,
            "cpu s/GB": statistics.median(cpu for _, cpu in each) / num_bytes * 1e9,
        }
    return found


async def carry(ends: tuple[Channel, Channel], frame: int, data: memoryview, staging: StagingPool) -> None:
    """One frame, and its room given back at once."""
    sender, receiver = ends
    berth = await find_berth(receiver, staging, timeout_s=5.0)
    await asyncio.gather(sender.send(frame, data, timeout_s=20.0), berth.receive(frame, len(data), timeout_s=20.0))
    berth.release()


async def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Figures of each channel, medians over `rounds`, taken in turns."""
    children = {channel: start(channel) for channel in CHANNELS}
    samples: dict[str, dict[str, list[tuple[float, float]]]] = {name: {size: [] for size in SIZES} for name in CHANNELS}
    try:
        async with working("p", "gloo") as (gloo, _), working("q", "same_host") as (same_host, _):
            ends = {"gloo": gloo, "same_host": same_host}
            senders = {name: Sender(ends[name], children[name], await address(children[name])) for name in CHANNELS}
            for sender in senders.values():
                for pages in (8, *SIZES.values()):
                    await sender.hand_off(pages)
            for _ in range(rounds):
                for name, sender in senders.items():
                    for size, pages in SIZES.items():
                        samples[name][size].append(await sender.hand_off(pages))
    finally:
        for child in children.values():
            child.kill()
            child.wait(timeout=10)
    return {name: figures(each) for name, each in samples.items()}


def figures(samples: dict[str, list[tuple[float, float]]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for size, each in samples.items():
        num_bytes = SIZES[size] * PAGE
        seconds = statistics.median(seconds for seconds, _ in each)
        found[f"{size} ms"] = seconds * 1000
        found[f"{size} best ms"] = min(seconds for seconds, _ in each) * 1000
        found[f"{size} GB/s"] = num_bytes / seconds / 1e9
        found[f"{size} cpu s/GB"] = statistics.median(cpu for _, cpu in each) / num_bytes * 1e9
    return found


def bounds() -> dict[str, float]:
    """One thread's rates over 96 MiB, the best of several: what no hand-off can pass."""
    count = SIZES["8k tokens"] * PAGE
    source, target = np.zeros(count, dtype=np.uint8), np.zeros(count, dtype=np.uint8)
    source[:] = 7
    key = DigestKey(bytes(32))
    return {
        "copy GB/s": count / best(lambda: np.copyto(target, source)) / 1e9,
        "digest GB/s": count / best(lambda: digest_pages(memoryview(source), PAGE, key)) / 1e9,
    }


def best(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(5):
        began = CLOCK.monotonic()
        work()
        seconds.append(CLOCK.monotonic() - began)
    return min(seconds)


def start(channel: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.bench.channels", "--receive", channel]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


async def address(child: "subprocess.Popen[str]") -> WorkerRef:
    assert child.stdout is not None
    name, epoch, where = (await asyncio.to_thread(child.stdout.readline)).split()
    return WorkerRef(worker=WorkerId(name), epoch=Epoch(int(epoch)), address=where)


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--receive", choices=CHANNELS)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.receive:
        asyncio.run(receive(arguments.receive))
        return
    found = {"bounds": bounds(), **asyncio.run(wire(arguments.rounds)), **asyncio.run(measure(arguments.rounds))}
    conditions = {
        "command": f"python -m tests.bench.channels --rounds {arguments.rounds}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.0f}",
        "versions": f"Python {platform.python_version()}, numpy {np.__version__}",
        "pages": f"{PAGE} bytes, runs of {RUN_PAGES}",
    }
    for name, each in found.items():
        print(name)
        for what, value in each.items():
            print(f"{what:>24}  {value:.3g}")
    if arguments.out:
        arguments.out.write_text(json.dumps({"conditions": conditions, "figures": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
