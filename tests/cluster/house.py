"""A real cluster for tests: processes, sockets, Valkey, and the oracle that every answer must satisfy."""

import asyncio
import os
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from common.config.loader import load
from common.core.clock import SystemClock
from common.core.entropy import SystemEntropy
from common.core.errors import BatonError
from common.core.request import Priority
from common.rpc.client import call
from common.rpc.convert.fields import PRIORITIES
from protos.baton.v1 import cluster_pb2, generation_pb2, types_pb2, worker_pb2, worker_pb2_grpc
from services.local.answer import Answer
from services.local.client import RouterClient, router_client
from services.local.cluster import LocalCluster, local_cluster
from services.local.supervisor import Supervised
from services.local.topology import Kind, Overrides
from services.local.valkey import EmbeddedValkey
from tests.cluster.leftovers import CANARY, check_logs, nothing_left
from tests.cluster.ports import stable_port

if TYPE_CHECKING:
    from common.observe.announce import Announcement

CI_TIER = (
    "local.gateways=0",
    "liveness.heartbeat_s=0.5",
    "liveness.lease_s=3",
    "liveness.ping_s=1",
    "liveness.ping_timeout_s=1",
    "transfer.deadline_s=2",
)
"""The reference set-up of the fault tests: short times, so that a test waits seconds and not minutes."""

SIM = ("engine.executor=sim", "engine.num_pages=4096", "local.max_restarts=50")
"""The honest simulated executor: no weights to load, and every page byte still counts."""

PATIENCE_S = 60.0
"""For what has no bar: a busy machine is no failure, and what never comes is one after a minute, too."""

CLOCK = SystemClock()


@dataclass(slots=True, kw_only=True)
class Told:
    """What one client saw of one request."""

    answer: Answer
    error: BatonError | None = None
    times: list[float] = field(default_factory=list)
    sent_at: float = field(default_factory=CLOCK.monotonic)
    ended_at: float = 0.0
    pause_s: float = 0.0
    """Of a slow reader, behind each message."""

    async def note(self) -> None:
        """A message came."""
        self.times.append(CLOCK.monotonic())
        if self.pause_s:
            await asyncio.sleep(self.pause_s)

    def tokens(self, choice: int = 0) -> list[int]:
        return self.answer.choices[choice].tokens

    @property
    def longest_silence_s(self) -> float:
        """The longest pause between two messages after the first."""
        return max((later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)), default=0.0)

    @property
    def longest_wait_s(self) -> float:
        """The longest time a client saw nothing, the wait for the first message included."""
        return max((self.times[0] if self.times else CLOCK.monotonic()) - self.sent_at, self.longest_silence_s)

    def check_whole(self, max_tokens: int | None = None) -> None:
        """The oracle: no error, indexes without gap or repeat (Answer checks them), one finish, a usage that counts."""
        assert self.error is None, f"{self.answer.request_id}: {self.error!r}"
        assert all(choice.finish in ("stop", "length") for choice in self.answer.choices.values())
        counted = sum(len(choice.tokens) for choice in self.answer.choices.values())
        assert self.answer.usage.completion_tokens == counted
        if max_tokens is not None:
            assert all(len(choice.tokens) == max_tokens for choice in self.answer.choices.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request as a test wants it."""

    tokens: tuple[int, ...]
    max_tokens: int = 16
    n: int = 1
    temperature: float = 0.0
    seed: int | None = None
    request_id: str = ""
    ignore_eos: bool = True
    priority: Priority | None = None
    tenant: str = ""

    def message(self) -> generation_pb2.GenerateRequest:
        sampling = types_pb2.SamplingParams(
            max_tokens=self.max_tokens,
            n=self.n,
            temperature=self.temperature,
            top_p=1.0,  # not the model's own default: the reference resolves nothing
            ignore_eos=self.ignore_eos,
            seed=self.seed,
        )
        return generation_pb2.GenerateRequest(
            request_id=self.request_id,
            token_ids=generation_pb2.TokenIds(ids=self.tokens),
            sampling=sampling,
            return_token_ids=True,
            priority=PRIORITIES[self.priority] if self.priority else types_pb2.PRIORITY_UNSPECIFIED,
            tenant=self.tenant,
        )


class House:
    """A running cluster under test."""

    def __init__(self, cluster: LocalCluster, client: RouterClient) -> None:
        self.cluster = cluster
        self.client = client

    async def ask(self, ask: Ask, *, timeout_s: float = 60.0, told: Told | None = None) -> Told:
        """Send one request and read its stream to the end, whatever the end is. `told` grows as it comes."""
        told = told or Told(answer=Answer(CLOCK))
        told.sent_at = CLOCK.monotonic()
        try:
            async for response in self.client.generate(ask.message(), timeout_s=timeout_s):
                told.answer.take(response)
                await told.note()
        except BatonError as error:
            told.error = error
        told.ended_at = CLOCK.monotonic()
        return told

    async def ask_all(self, asks: Sequence[Ask], *, at_once: int = 32, timeout_s: float = 120.0) -> list[Told]:
        """Many requests, at most `at_once` in flight."""
        gate = asyncio.Semaphore(at_once)

        async def one(ask: Ask) -> Told:
            async with gate:
                return await self.ask(ask, timeout_s=timeout_s)

        return await asyncio.gather(*(one(ask) for ask in asks))

    def worker(self, kind: Kind, number: int = 0) -> Supervised:
        return self.cluster.of(kind)[number]

    def kill(self, kind: Kind, number: int = 0, number_of_signal: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to one process; a killed one is restarted by its supervisor, and not ready until then."""
        process = self.worker(kind, number)
        assert process.child.pid is not None
        os.kill(process.child.pid, number_of_signal)
        if number_of_signal is signal.SIGKILL:
            process.ready.clear()

    async def status(self, process: Supervised) -> worker_pb2.GetStatusResponse:
        """What a worker says of itself."""
        assert process.last is not None
        channel = self.client.connect_worker(process.last.address)
        try:
            stub = worker_pb2_grpc.WorkerServiceStub(channel)
            return await call(stub.GetStatus, worker_pb2.GetStatusRequest(), peer=process.spec.name, timeout_s=5.0)
        finally:
            await channel.close(grace=None)

    async def counters(self, kind: Kind) -> list[Mapping[str, float]]:
        return [dict((await self.status(process)).counters) for process in self.cluster.of(kind)]

    async def view(self) -> cluster_pb2.GetClusterResponse:
        return await self.client.cluster()

    async def wait_workers(self, count: int, *, timeout_s: float = PATIENCE_S) -> None:
        """Until the router sees `count` ready workers, all of them incarnations that run now."""
        await self.until(lambda: self._sees(count), timeout_s=timeout_s)

    async def wait_whole(self) -> None:
        """Until every worker that there should be is ready."""
        await self.wait_workers(len(self.workers()))

    async def _sees(self, count: int) -> bool:
        running = await self.epochs()
        ready = {each.worker.epoch for each in (await self.view()).workers if each.state == "ready"}
        return len(running) == count and ready == running

    async def epochs(self) -> set[int]:
        """The incarnations of the workers that are up."""
        up = [process for process in self.workers() if process.ready.is_set()]
        try:
            return {(await self.status(process)).worker.epoch for process in up}
        except BatonError:
            return set()  # one of them is going or coming at this moment

    async def until(self, is_so: Callable[[], Awaitable[bool | None]], *, timeout_s: float = PATIENCE_S) -> None:
        """Until something is so, looked at from outside again and again: a process has no event to wait for."""
        async with asyncio.timeout(timeout_s):
            while not await is_so():
                await asyncio.sleep(0.01)

    async def ask_canary(self) -> None:
        """A prompt as text, that no log may show. It is answered: whatever happened before, the cluster serves."""
        sampling = types_pb2.SamplingParams(max_tokens=4, ignore_eos=True)
        request = generation_pb2.GenerateRequest(text=f"{CANARY} " * 40, sampling=sampling, return_token_ids=True)
        answer = Answer(CLOCK)
        async for response in self.client.generate(request, timeout_s=30.0):
            answer.take(response)
        assert len(answer.choices[0].tokens) == 4

    async def check_invariants(self, *, timeout_s: float = 8.0) -> None:
        """Pages sum up and nobody holds one; transfers and requests balance; gauges are zero; no bug was counted."""
        await self.until(self._is_quiet, timeout_s=timeout_s)
        figures = (await self.view()).figures
        ended = sum(figures[f"requests_{name}"] for name in ("finished", "failed", "cancelled", "refused"))
        assert figures["requests_received"] == ended, dict(figures)
        totals: Counter[str] = Counter()
        for process in self.workers():
            counters = (await self.status(process)).counters
            for end in ("sent", "received"):
                started, *ends = (
                    counters[f"{end}_transfers_{name}"] for name in ("started", "done", "failed", "expired")
                )
                assert started == sum(ends), (process.spec.name, end, dict(counters))
                assert counters.get(f"{end}_transfers_bug", 0) == 0, (process.spec.name, dict(counters))
            totals.update({name: int(value) for name, value in counters.items() if "_transfers_" in name})
        if not any(process.restarts for process in self.workers()):
            unheard = totals["sent_transfers_started"] - totals["received_transfers_started"]
            # A receiver that never heard of a transfer cannot count it; a sender to whom nobody answers has to.
            most = totals["sent_transfers_failed"] if totals["sent_transfers_offer_retry"] else 0
            assert 0 <= unheard <= most, totals

    @property
    def valkey(self) -> EmbeddedValkey:
        return self.cluster.valkey

    def workers(self) -> list[Supervised]:
        return [*self.cluster.of(Kind.PREFILL), *self.cluster.of(Kind.DECODE)]

    def check_exits(self) -> None:
        """After the end: whatever was not killed left on SIGTERM with status 0."""
        statuses = {name: process.status for name, process in self.cluster.supervisor.processes.items()}
        assert set(statuses.values()) == {0}, statuses

    async def _is_quiet(self) -> bool:
        loads = [(await self.status(process)).load for process in self.workers()]
        for report in loads:
            pages = report.free_pages + report.promised_pages + report.referenced_pages + report.cached_pages
            assert pages == report.total_pages, report
        view = await self.view()
        held = sum(each.promised_pages + each.referenced_pages + each.outstanding_exports for each in loads)
        return held == 0 and view.active_requests == 0 and view.queued_requests == 0


@asynccontextmanager
async def house(
    *,
    prefill: int = 1,
    decode: int = 1,
    routers: int = 1,
    settings: Sequence[str] = (),
    ci_tier: bool = True,
    of_process: Mapping[str, tuple[str, ...]] | None = None,
) -> AsyncIterator[House]:
    """A cluster for the block. Invariants are checked when the block ends well; nothing is left after it."""
    with nothing_left(), tempfile.TemporaryDirectory(prefix="baton-test-") as run_dir:
        chosen = [f"local.prefill={prefill}", f"local.decode={decode}", f"local.routers={routers}"]
        chosen += ["local.max_restarts=50", f"local.run_dir={run_dir}", "engine.threads=1"]
        tier = CI_TIER if ci_tier else ()
        overrides = Overrides(settings=(*tier, *chosen, *settings), of_process=of_process or {})
        try:
            async with _running(overrides) as made:
                await made.wait_workers(prefill + decode)
                yield made
                await made.ask_canary()
                await made.check_invariants()
            made.check_exits()
        finally:
            check_logs(Path(run_dir))


@asynccontextmanager
async def _running(overrides: Overrides) -> AsyncIterator[House]:
    told: list[Announcement] = []
    cluster_context = local_cluster(
        load(settings=overrides.settings),
        overrides,
        clock=CLOCK,
        entropy=SystemEntropy(),
        tell=told.append,
        first_router_port=stable_port(),
        first_gateway_port=stable_port(),
    )
    async with cluster_context as cluster, router_client(cluster.router_address()) as client:
        yield House(cluster, client)
