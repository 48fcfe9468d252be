"""Streams that are read, and what is seen of them: for router_load and its control."""

import asyncio
import os
from bisect import bisect_right
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median

import psutil

from common.core.clock import SystemClock
from common.core.errors import BatonError
from protos.baton.v1 import generation_pb2
from services.local.bench.message_stream import connected
from services.local.client import RouterClient, router_client
from tests.cluster.house import Ask
from tests.cluster.load import percentile

CHANNELS = 8
"""Connections. One router's limit on streams of a connection lies far above."""

START_S = 60.0
"""Chosen: so long may the streams take to begin; they are long enough to go on until the end."""

MAX_LATEST = 4
"""Steps that are told: a few more than p99 is made of."""

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


class Window:
    """The time in which everything is counted: all streams run from its begin to its end.

    The first `num_servers` processes share the streams evenly; the others have to do with all.
    """

    def __init__(self, processes: Mapping[str, psutil.Process], *, began: float, num_servers: int) -> None:
        self._processes = processes
        self._servers = list(processes)[:num_servers]
        self._began = self._ended = began
        self._cpu_s = {name: -cpu_s(each) for name, each in processes.items()}
        self._waited_s = {name: -waited_s(processes[name]) for name in self._servers}

    def end(self, now: float) -> None:
        self._ended = now
        for name, each in self._processes.items():
            self._cpu_s[name] += cpu_s(each)
        for name in self._servers:
            self._waited_s[name] += waited_s(self._processes[name])

    def cost_us(self, name: str, readers: Sequence[Reader]) -> float:
        """CPU time of a process per message that it had to do with."""
        num_messages = max(sum(map(len, self._times(readers))), 1)
        return self._cpu_s[name] * 1e6 / num_messages * (len(self._servers) if name in self._servers else 1)

    def messages_per_cpu_s(self, readers: Sequence[Reader]) -> float:
        """Of the servers' own time, added up: what so many cores would carry."""
        return sum(1e6 / self.cost_us(name, readers) for name in self._servers)

    def gap_ms(self, readers: Sequence[Reader], share: float) -> float:
        """A percentile of the time between two messages of a stream."""
        gaps = [later - earlier for each in self._times(readers) for earlier, later in pairwise(each)]
        return percentile(gaps, share) * 1e3

    def steps_ms(self, readers: Sequence[Reader], *, period_s: float) -> tuple[list[float], float]:
        """What a percentile does not tell: of each step the median gap of all streams, the latest step first; and at
        p99 how much later a stream hears than its step. Of ten seconds at 20 tokens/s the two latest steps are p99."""
        times = self._times(readers)
        edges = [at - period_s / 2 for at in times[len(times) // 2]]  # of a stream amid each burst
        steps: defaultdict[int, list[float]] = defaultdict(list)
        for earlier, later in (pair for each in times for pair in pairwise(each)):
            steps[bisect_right(edges, later)].append(1e3 * (later - earlier))
        usual = {step: median(gaps) for step, gaps in steps.items()}
        behind = [gap - usual[step] for step, gaps in steps.items() for gap in gaps]
        return sorted(usual.values(), reverse=True), percentile(behind, 0.99)

    def line(self, readers: Sequence[Reader], *, period_s: float) -> str:
        num_messages, seconds = sum(map(len, self._times(readers))), self._ended - self._began
        costs = ", ".join(
            f"{name} {self.cost_us(name, readers):.0f} us a message, {used_s / seconds:.2f} cores"
            for name, used_s in self._cpu_s.items()
        )
        waits = ", ".join(f"{name} {1e3 * waited / seconds:.0f} ms" for name, waited in self._waited_s.items())
        steps, behind_ms = self.steps_ms(readers, period_s=period_s)
        latest = ", ".join(f"{each:.1f}" for each in steps[:MAX_LATEST])
        return (
            f"{num_messages / seconds:.0f} messages/s; CPU: {costs}\n"
            f"between messages: p50 {self.gap_ms(readers, 0.5):.1f} ms, p99 {self.gap_ms(readers, 0.99):.1f} ms, "
            f"written every {period_s * 1e3:.1f} ms; latest of {len(steps)} steps: {latest} ms; "
            f"within a step p99 {behind_ms:+.1f} ms; threads ready to run waited, each second: {waits}"
        )

    def _times(self, readers: Sequence[Reader]) -> list[list[float]]:
        return [[at for at in reader.times if self._began <= at < self._ended] for reader in readers]


def cpu_s(process: psutil.Process) -> float:
    return sum(process.cpu_times()[:2])


def waited_s(process: psutil.Process) -> float:
    """For a core, all threads together: for each other, and for whatever else runs there."""
    waited_ns = 0
    for path in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended
            waited_ns += int(path.read_text().split()[1])
    return waited_ns / 1e9


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


def pin(servers: Sequence[psutil.Process], others: Sequence[psutil.Process]) -> None:
    """Each server to a core, with every thread that it has; the others to the rest, if there is one."""
    cores = sorted(os.sched_getaffinity(os.getppid()))
    taken = cores[: len(servers)]
    places = [(server, [core]) for server, core in zip(servers, taken, strict=False)]
    places += [(other, cores[len(taken) :] or cores) for other in others]
    for process, where in places:
        for thread in process.threads():
            with suppress(ProcessLookupError):  # it ended
                os.sched_setaffinity(thread.id, where)
