"""A real cluster for tests: processes, sockets, Valkey, and the oracle that every answer must satisfy."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from common.config.loader import load
from common.core.clock import SystemClock
from common.core.entropy import SystemEntropy
from common.core.errors import BatonError
from common.rpc.client import call, grpc_connect
from common.rpc.options import Surface
from protos.baton.v1 import cluster_pb2, generation_pb2, types_pb2, worker_pb2, worker_pb2_grpc
from services.local.answer import Answer
from services.local.client import RouterClient, router_client
from services.local.cluster import LocalCluster, local_cluster
from services.local.ports import free_port
from services.local.supervisor import Supervised
from services.local.topology import Kind, Overrides

if TYPE_CHECKING:
    from common.observe.announce import Announcement

CI_TIER = (
    "liveness.heartbeat_s=0.5",
    "liveness.lease_s=3",
    "liveness.ping_s=1",
    "liveness.ping_timeout_s=1",
    "transfer.deadline_s=2",
)
"""The reference set-up of the fault tests: short times, so that a test waits seconds and not minutes."""

CLOCK = SystemClock()


@dataclass(slots=True, kw_only=True)
class Told:
    """What one client saw of one request."""

    answer: Answer
    error: BatonError | None = None
    times: list[float] = field(default_factory=list)

    def tokens(self, choice: int = 0) -> list[int]:
        return self.answer.choices[choice].tokens

    @property
    def longest_silence_s(self) -> float:
        """The longest pause between two messages after the first."""
        return max((later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)), default=0.0)

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
        )


class House:
    """A running cluster under test."""

    def __init__(self, cluster: LocalCluster, client: RouterClient) -> None:
        self.cluster = cluster
        self.client = client

    async def ask(self, ask: Ask, *, timeout_s: float = 60.0) -> Told:
        """Send one request and read its stream to the end, whatever the end is."""
        told = Told(answer=Answer(CLOCK))
        try:
            async for response in self.client.generate(ask.message(), timeout_s=timeout_s):
                told.times.append(CLOCK.monotonic())
                told.answer.take(response)
        except BatonError as error:
            told.error = error
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
        """Send a signal to one process; a killed one is restarted by its supervisor."""
        pid = self.worker(kind, number).child.pid
        assert pid is not None
        os.kill(pid, number_of_signal)

    async def status(self, process: Supervised) -> worker_pb2.GetStatusResponse:
        """What a worker says of itself."""
        assert process.last is not None
        channel = grpc_connect(Surface.INTERNAL)(process.last.address)
        try:
            stub = worker_pb2_grpc.WorkerServiceStub(channel)
            return await call(stub.GetStatus, worker_pb2.GetStatusRequest(), peer=process.spec.name, timeout_s=5.0)
        finally:
            await channel.close(grace=None)

    async def counters(self, kind: Kind) -> list[Mapping[str, float]]:
        return [dict((await self.status(process)).counters) for process in self.cluster.of(kind)]

    async def view(self) -> cluster_pb2.GetClusterResponse:
        return await self.client.cluster()

    async def wait_workers(self, count: int, *, timeout_s: float = 20.0) -> None:
        """Until the router sees `count` ready workers."""
        async with asyncio.timeout(timeout_s):
            while sum(worker.state == "ready" for worker in (await self.view()).workers) < count:
                await asyncio.sleep(0.05)  # seen from outside, a process has no event to wait for

    async def check_invariants(self, *, timeout_s: float = 5.0) -> None:
        """Pages sum up and nobody holds one; transfers balance; requests balance; gauges are zero."""
        async with asyncio.timeout(timeout_s):
            while not await self._is_quiet():
                await asyncio.sleep(0.05)  # seen from outside, a process has no event to wait for
        figures = (await self.view()).figures
        ended = sum(figures[f"requests_{name}"] for name in ("finished", "failed", "cancelled", "refused"))
        assert figures["requests_received"] == ended, dict(figures)

    async def _is_quiet(self) -> bool:
        workers = [*self.cluster.of(Kind.PREFILL), *self.cluster.of(Kind.DECODE)]
        loads = [(await self.status(process)).load for process in workers]
        for report in loads:
            pages = report.free_pages + report.promised_pages + report.referenced_pages + report.cached_pages
            assert pages == report.total_pages, report
        view = await self.view()
        held = sum(each.promised_pages + each.referenced_pages + each.outstanding_exports for each in loads)
        return held == 0 and view.active_requests == 0 and view.queued_requests == 0


@asynccontextmanager
async def house(
    *, prefill: int = 1, decode: int = 1, routers: int = 1, settings: Sequence[str] = (), ci_tier: bool = True
) -> AsyncIterator[House]:
    """A cluster for the block. Invariants are checked when the block ends well; nothing is left after it."""
    chosen = [f"local.prefill={prefill}", f"local.decode={decode}", f"local.routers={routers}", "local.max_restarts=50"]
    overrides = Overrides(settings=(*(CI_TIER if ci_tier else ()), *chosen, "engine.threads=1", *settings))
    config = load(settings=overrides.settings)
    told: list[Announcement] = []
    cluster_context = local_cluster(
        config, overrides, clock=CLOCK, entropy=SystemEntropy(), tell=told.append, first_router_port=free_port()
    )
    async with cluster_context as cluster, router_client(cluster.router_address()) as client:
        made = House(cluster, client)
        await made.wait_workers(prefill + decode)
        yield made
        await made.check_invariants()
