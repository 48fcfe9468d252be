"""Two or more endpoints in one process: real state machines, a control plane that can lose and delay, a loopback."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from common.core.clock import Clock
from common.core.entropy import SeededEntropy
from common.core.errors import BatonError, DeadlineExceeded, Reason, Unavailable
from common.core.ids import Epoch, RequestId, ReservationId, TokenId, TransferId, WorkerId, WorkerRef
from common.kv.layout import PageLayout
from common.kv.span import Span
from common.kv.staging import StagingPool
from common.transfer.dock import Dock
from common.transfer.endpoint import KvEndpoint
from common.transfer.expectation import Arrival, Expectation
from common.transfer.fetch import PageSource
from common.transfer.limits import TransferLimits
from common.transfer.loopback import LoopbackFaults, LoopbackNetwork
from common.transfer.menu import ChannelMenu
from common.transfer.messages import Fetch, Finale, FirstToken, Meet, Met, Offer, Outcome, PageRun, Pair, TransferRef
from common.transfer.offload import InlineOffload, Offload
from common.transfer.outbound import OutboundTransfer
from tests.kv.host_page_device import read_span
from tests.sim.timeloop import TimeLoop

Answer = TypeVar("Answer")

LAYOUT = PageLayout(num_layers=2, num_kv_heads=1, head_dim=8, page_size=4, dtype="sim")
PAGE = LAYOUT.page_bytes
REQUEST = RequestId("req-1")

FAST = TransferLimits(
    open_timeout_s=0.5,
    control_timeout_s=0.2,
    frame_timeout_s=0.3,
    staging_timeout_s=0.1,
    idle_timeout_s=1.0,
    outcome_wait_s=0.2,
    min_bytes_per_s=1e7,
)
"""Deadlines for virtual time: short, with all proportions kept. A real machine may stand still for longer."""

LONGEST_STALL_S = 5.0

UNHURRIED = TransferLimits(
    open_timeout_s=60.0, control_timeout_s=30.0, frame_timeout_s=30.0, idle_timeout_s=120.0, outcome_wait_s=1.0
)
"""Deadlines for real sockets and shared memory: they bound a failure, and what passes meets none of them."""


class LoopClock:
    """The running loop's time."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        return self.monotonic()


def page_bytes(index: int, salt: str = "") -> bytes:
    """Bytes that belong to one page of one request and to no other."""
    return hashlib.shake_256(f"{salt}{index}".encode()).digest(PAGE)


def run_data(run: PageRun, salt: str = "") -> memoryview:
    return memoryview(bytearray(b"".join(page_bytes(index, salt) for index in range(run.first_page, run.end))))


def finale(total_pages: int, *choices: int) -> Finale:
    tokens = tuple(FirstToken(choice=choice, token=TokenId(7 + choice)) for choice in choices or (0,))
    return Finale(first_tokens=tokens, total_pages=total_pages, cached_tokens=0)


@dataclass
class ControlFaults:
    """What may happen to a control message. `chance` draws from 0 to 1."""

    chance: Callable[[], float] = lambda: 1.0
    lose_request: float = 0.0
    lose_response: float = 0.0
    duplicate: float = 0.0
    delay_s: float = 0.0
    dead: set[WorkerId] = field(default_factory=set)
    """Nothing reaches or leaves these."""


class DirectPeers:
    """The control plane of the rig, as seen from one worker."""

    def __init__(self, rig: "Rig", me: WorkerRef) -> None:
        self._rig = rig
        self._me = me

    def at(self, worker: WorkerRef) -> "DirectPeer":
        return DirectPeer(self._rig, self._me, worker)


class DirectPeer:
    """Calls an endpoint as gRPC would: with a deadline, and with the loss of either direction."""

    def __init__(self, rig: "Rig", me: WorkerRef, worker: WorkerRef) -> None:
        self._rig = rig
        self._me = me
        self._worker = worker

    async def meet(self, pair: Pair, meet: Meet, *, timeout_s: float) -> Met:
        return await self._call(lambda end: end.meet(pair, meet), timeout_s)

    async def put(self, pair: Pair, key: str, value: bytes, *, timeout_s: float) -> None:
        await self._call(lambda end: end.put(pair, key, value), timeout_s)

    async def get(self, pair: Pair, key: str, *, wait_s: float, timeout_s: float) -> bytes | None:
        return await self._call(lambda end: end.get(pair, key, wait_s), timeout_s)

    async def leave(self, pair: Pair, reason: str, *, timeout_s: float) -> None:
        await self._call(lambda end: end.leave(pair, reason), timeout_s)

    async def offer(self, offer: Offer, *, timeout_s: float) -> None:
        self._rig.offers.append(offer)
        await self._call(lambda end: end.offer(offer), timeout_s)

    async def outcome(self, transfer: TransferRef, *, wait_s: float, abort: Reason | None, timeout_s: float) -> Outcome:
        return await self._call(lambda end: end.outcome(transfer, wait_s, abort), timeout_s)

    async def fetch(self, fetch: Fetch, *, timeout_s: float) -> int:
        return await self._call(lambda end: end.fetch(fetch), timeout_s)

    async def _call(self, call: Callable[[KvEndpoint], Awaitable[Answer]], timeout_s: float) -> Answer:
        faults = self._rig.control
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.sleep(faults.delay_s * faults.chance())
                if faults.chance() < faults.lose_request or faults.dead & {self._me.worker, self._worker.worker}:
                    await asyncio.sleep(timeout_s)
                end = self._rig.at_address(self._worker)
                if faults.chance() < faults.duplicate:
                    self._rig.again(call, end, faults.delay_s * 5 * faults.chance())
                answer = await call(end)
                await asyncio.sleep(faults.delay_s * faults.chance())
                if faults.chance() < faults.lose_response or self._worker.worker in faults.dead:
                    await asyncio.sleep(timeout_s)
                return answer
        except TimeoutError:
            raise DeadlineExceeded(message=f"no answer from {self._worker.worker} in {timeout_s} s") from None


class Rig:
    """Endpoints by name. `restart` gives a worker a new epoch at the old address."""

    def __init__(self, *, seed: int = 1, clock: Clock | None = None, limits: TransferLimits = FAST) -> None:
        self.entropy = SeededEntropy(seed)
        self.network = LoopbackNetwork(SeededEntropy(seed + 1), LoopbackFaults())
        self.control = ControlFaults()
        self.clock = clock or LoopClock()
        self.limits = limits
        self.offload: Offload = InlineOffload()
        self.ends: dict[WorkerId, KvEndpoint] = {}
        self.retired: list[KvEndpoint] = []
        self.offers: list[Offer] = []
        self._late: set[asyncio.Task[None]] = set()

    async def add(
        self,
        name: str,
        *,
        layout: PageLayout = LAYOUT,
        staging: int = 4,
        pages: int = 4,
        source: PageSource | None = None,
        channels: ChannelMenu | None = None,
        dock: Dock | None = None,
    ) -> KvEndpoint:
        is_hurried = self.limits.open_timeout_s < LONGEST_STALL_S
        assert not is_hurried or isinstance(asyncio.get_running_loop(), TimeLoop), "near deadlines need virtual time"
        me = WorkerRef(worker=WorkerId(name), epoch=Epoch(self.entropy.bits(63) + 1), address=f"{name}:1")
        end = KvEndpoint(
            me,
            layout=layout,
            peers=DirectPeers(self, me),
            channels=channels or ChannelMenu(self.network),
            staging=StagingPool(staging, pages * PAGE),
            offload=self.offload,
            clock=self.clock,
            entropy=self.entropy,
            limits=self.limits,
            source=source,
            dock=dock,
        )
        self.ends[me.worker] = end
        return await end.__aenter__()

    async def restart(self, name: str, *, channels: ChannelMenu | None = None) -> KvEndpoint:
        """The process dies without a word; another starts at its address."""
        old = self.ends.pop(WorkerId(name))
        self.network.kill(old.me.worker)
        self.retired.append(old)
        return await self.add(name, channels=channels)

    def at_address(self, worker: WorkerRef) -> KvEndpoint:
        for end in self.ends.values():
            if end.me.address == worker.address:
                return end
        raise Unavailable(message=f"nobody at {worker.address}")

    def again(self, call: Callable[[KvEndpoint], Awaitable[Any]], end: KvEndpoint, delay_s: float) -> None:
        """The same message once more, later."""

        async def late() -> None:
            await asyncio.sleep(delay_s)
            try:
                await call(end)
            except (BatonError, TimeoutError):
                return

        task = asyncio.get_running_loop().create_task(late())
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def close(self) -> None:
        self.control = ControlFaults()
        if self._late:
            await asyncio.wait(self._late)
        for end in (*self.retired, *self.ends.values()):
            await end.__aexit__(None, None, None)


@asynccontextmanager
async def rigged(**options: Any) -> AsyncIterator[Rig]:
    """A rig whose invariants are checked at its end: nothing lent, nothing running, counters that sum, no bug."""
    rig = Rig(**options)
    try:
        yield rig
    finally:
        await rig.close()
    for end in (*rig.retired, *rig.ends.values()):
        snapshot = end.snapshot()
        for totals in (snapshot.sent, snapshot.received):
            assert totals.in_flight >= 0, totals
            assert totals.incidents.get("bug", 0) == 0, end._scope.first_bug
        assert snapshot.background_tasks == 0, snapshot
        assert snapshot.lent_arrivals == 0, snapshot
        assert snapshot.free_staging == end._staging.count, snapshot


def as_bytes(data: Span) -> bytes:
    """What lies there, the host's or a pretended GPU's."""
    return bytes(data) if isinstance(data, memoryview) else read_span(data)


class Sink:
    """A decode worker's arrivals in small: pages land when the test says so, at once by default."""

    def __init__(self, end: KvEndpoint, *, lands_at_once: bool = True) -> None:
        self.end = end
        self.lands_at_once = lands_at_once
        self.pages: dict[int, bytes] = {}
        self.waiting: list[Arrival] = []
        self.finales: list[Finale] = []
        self.failures: list[Outcome] = []

    def on_run(self, arrival: Arrival) -> None:
        if self.lands_at_once:
            self.land(arrival)
        else:
            self.waiting.append(arrival)

    def land(self, arrival: Arrival) -> None:
        for offset, index in enumerate(range(arrival.run.first_page, arrival.run.end)):
            self.pages[index] = as_bytes(arrival.data[offset * PAGE : (offset + 1) * PAGE])
        self.end.inbound.landed(arrival)

    def land_all(self) -> None:
        while self.waiting:
            self.land(self.waiting.pop(0))

    def on_finale(self, transfer: TransferId, finale: Finale) -> None:
        self.finales.append(finale)

    def on_failed(self, transfer: TransferId, outcome: Outcome) -> None:
        self.failures.append(outcome)


def expect(
    end: KvEndpoint,
    total_pages: int,
    *,
    held: int = 0,
    attempt: int = 1,
    name: str = "res-1",
    sink: Sink | None = None,
    must_begin_s: float | None = None,
    num_layers: int = 1,
) -> tuple[Sink, TransferId]:
    """A promise at `end`, ready to be filled."""
    sink = sink or Sink(end)
    transfer = TransferId(reservation=ReservationId(name), attempt=attempt)
    expectation = Expectation(
        transfer=transfer,
        request=REQUEST,
        total_pages=total_pages,
        held_pages=held,
        page_bytes=PAGE,
        num_layers=num_layers,
        must_begin_s=must_begin_s,
    )
    end.inbound.expect(expectation, sink)
    return sink, transfer


async def ship_all(
    transfer: OutboundTransfer, total_pages: int, *, held: int = 0, salt: str = "", step: int = 2
) -> None:
    """Every page in runs of `step`, the finale with the last."""
    runs = [PageRun(first_page=i, num_pages=min(step, total_pages - i)) for i in range(held, total_pages, step)]
    for run in runs[:-1]:
        await transfer.ship(run, run_data(run, salt))
    last = runs[-1] if runs else None
    await transfer.finish(finale(total_pages), last, None if last is None else run_data(last, salt))
