"""Workers that play their part by the book, or not, over the in-memory network: for the dispatch tests.

Token `index` of choice `c` is 1000 * (c + 1) + index wherever it is drawn, as counter-based noise guarantees.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from common.core.errors import Reason, Refused, Unavailable
from common.core.events import EventMessage, PrefillDone, TokensEmitted, WorkEvent, WorkFailed
from common.core.ids import Epoch, PrefixHash, RequestId, TokenId, WorkerId, WorkerRef
from common.core.request import FinishReason, Work
from common.core.worker import LoadReport, Member, PageCounts, Role, WorkerState
from common.rpc.bind import Bind
from common.rpc.convert.columns import ColumnsWriter
from common.rpc.convert.events import message_to_wire
from common.rpc.convert.work import work_from_wire
from common.rpc.convert.worker import worker_from_wire, worker_to_wire
from common.rpc.options import Surface
from common.rpc.server import RpcServer, Service, serve
from protos.baton.v1 import (
    decode_pb2,
    decode_pb2_grpc,
    prefill_pb2,
    prefill_pb2_grpc,
    types_pb2,
    worker_pb2,
    worker_pb2_grpc,
)
from tests.sim.network import Network
from tests.sim.transport import memory_server

HEARTBEAT_S = 0.5
STEP_S = 0.01


def true_token(choice: int, index: int) -> TokenId:
    return TokenId(1000 * (choice + 1) + index)


@dataclass(slots=True)
class Script:
    """How a worker misbehaves. Counts are used up as they happen."""

    refusals: int = 0
    """Placements answered with NO_PAGES."""
    transfer_failures: int = 0
    """Prefills after which the pages do not arrive: decode never begins."""
    lost_renewals: int = 0
    """Renewals that are carried out, and whose answer is lost."""
    renewal_s: float = 0.0
    """Until a renewal that was carried out is answered."""
    internal_errors: int = 0
    """Works whose model step fails."""
    stop_token_at: int | None = None
    repeats: int = 1
    """How often each event is sent."""
    step_s: float = STEP_S
    prefill_s: float = 0.02
    silent_after: int | None = None
    """Decode draws this many tokens of a work, and then nothing at all."""


class Mirror:
    """A directory that the test writes."""

    def __init__(self) -> None:
        self.is_stale = False
        self.version = 0
        self.listed: dict[WorkerId, Member] = {}
        self.predicted: list[tuple[WorkerId, int]] = []
        self._changed = asyncio.Event()

    def members(self) -> Sequence[Member]:
        return tuple(self.listed.values())

    def held_runs(self, hashes: Sequence[PrefixHash], *, is_told: bool = False) -> Mapping[WorkerId, int]:
        return {}

    def predict(self, worker: WorkerId, hashes: Sequence[PrefixHash]) -> None:
        self.predicted.append((worker, len(hashes)))

    def owned_pages(self, worker: WorkerId) -> int:
        return 0

    async def wait_change(self, seen: int, deadline: float) -> bool:
        try:
            async with asyncio.timeout(deadline - asyncio.get_running_loop().time()):
                while self.version == seen:
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def put(self, member: Member) -> None:
        self.listed[member.worker.worker] = member
        self._tell()

    def remove(self, worker: WorkerId) -> None:
        self.listed.pop(worker, None)
        self._tell()

    def _tell(self) -> None:
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()


class Stage:
    """What all workers share: the network, the directory, and the wire between prefill and decode."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.mirror = Mirror()
        self.workers: dict[str, PlayedWorker] = {}
        self._epochs = 0

    async def enter(self, name: str, role: Role, script: Script | None = None, *, pages: int = 1000) -> "PlayedWorker":
        """Starts a worker process and lists it in the directory."""
        self._epochs += 1
        worker = PlayedWorker(name, role, Epoch(self._epochs), self, script or Script(), pages)
        await worker.start()
        self.workers[name] = worker
        self.mirror.put(worker.member())
        return worker

    def kill(self, name: str) -> None:
        """SIGKILL. The directory notices when the test says so."""
        self.workers.pop(name).stop()
        self.network.kill(name)


@dataclass(eq=False, slots=True)
class Held:
    """A work on a worker, and the task that plays it."""

    work: Work
    attempt: int
    task: asyncio.Task[None] | None = None


class PlayedWorker(
    worker_pb2_grpc.WorkerServiceServicer,
    decode_pb2_grpc.DecodeServiceServicer,
    prefill_pb2_grpc.PrefillServiceServicer,
):
    """One process."""

    def __init__(self, name: str, role: Role, epoch: Epoch, stage: Stage, script: Script, pages: int) -> None:
        self.name = name
        self.role = role
        self.epoch = epoch
        self.script = script
        self.held: dict[str, Held] = {}
        self.seen: Counter[str] = Counter()
        self.works: list[Work] = []
        self.ended: list[tuple[int, ...]] = []
        """Choices that were ended while others of their work went on."""
        self.cancelled: dict[RequestId, int] = {}
        self.state = WorkerState.READY
        self.voice = asyncio.Event()
        """Cleared: the process hangs, its stream stays open and says nothing."""
        self.voice.set()
        self._pages = pages
        self._stage = stage
        self._outbox: list[asyncio.Queue[tuple[WorkEvent, ...]]] = []
        self._server: RpcServer | None = None

    @property
    def ref(self) -> WorkerRef:
        assert self._server is not None
        return WorkerRef(worker=WorkerId(self.name), epoch=self.epoch, address=self._server.address)

    def member(self) -> Member:
        return Member(worker=self.ref, role=self.role, state=self.state, load=self.load(), layout_fingerprint=bytes(32))

    def load(self) -> LoadReport:
        used = min(len(self.held), self._pages)
        pages = PageCounts(total=self._pages, free=self._pages - used, promised=0, referenced=used, cached=0)
        return LoadReport(pages=pages, running_sequences=len(self.held))

    async def start(self) -> None:
        services = [
            Service(
                name="baton.v1.WorkerService",
                add=lambda server: worker_pb2_grpc.add_WorkerServiceServicer_to_server(self, server),
            ),
            Service(
                name="baton.v1.DecodeService",
                add=lambda server: decode_pb2_grpc.add_DecodeServiceServicer_to_server(self, server),
            ),
            Service(
                name="baton.v1.PrefillService",
                add=lambda server: prefill_pb2_grpc.add_PrefillServiceServicer_to_server(self, server),
            ),
        ]
        make = memory_server(self._stage.network, self.name)
        self._server = await serve(services, Bind(), surface=Surface.INTERNAL, make_server=make, with_reflection=False)

    def stop(self) -> None:
        for held in self.held.values():
            if held.task is not None:
                held.task.cancel()
        self.held.clear()

    def emit(self, *events: WorkEvent) -> None:
        for _ in range(self.script.repeats):
            for queue in self._outbox:
                queue.put_nowait(events)

    # WorkerService

    async def Subscribe(self, request: worker_pb2.SubscribeRequest, context: object) -> AsyncIterator[object]:
        queue: asyncio.Queue[tuple[WorkEvent, ...]] = asyncio.Queue()
        self._outbox.append(queue)
        loop, sequence, events = asyncio.get_running_loop(), 0, ()
        to_wire = ColumnsWriter().message if request.reads_columns else message_to_wire
        try:
            while True:
                sequence += 1
                message = EventMessage(worker=self.ref, sequence=sequence, events=events, load=self.load())
                await self.voice.wait()
                yield to_wire(message, now=loop.time())
                try:
                    async with asyncio.timeout(HEARTBEAT_S):
                        events = await queue.get()
                except TimeoutError:
                    events = ()
        finally:
            self._outbox.remove(queue)

    async def CancelWork(self, request: worker_pb2.CancelWorkRequest, context: object) -> object:
        for item in request.items:
            if item.choices:
                held = self.held.get(item.request_id)
                if held is not None and held.task is not None:  # a promise has no choices of its own yet
                    self.ended.append(tuple(item.choices))
                continue
            self.seen["cancel"] += 1
            self.cancelled[RequestId(item.request_id)] = item.attempt
            held = self.held.get(item.request_id)
            if held is not None and held.attempt <= item.attempt:
                self._drop(item.request_id)
        return worker_pb2.CancelWorkResponse()

    # DecodeService

    async def Reserve(self, request: decode_pb2.ReserveRequest, context: object) -> object:
        work = self._take("reserve", request.work)
        self.held[work.request] = Held(work=work, attempt=work.attempt)
        return decode_pb2.ReserveResponse(
            reservation_id=work.request, worker=worker_to_wire(self.ref), total_pages=1, promised_pages=1
        )

    async def Renew(self, request: decode_pb2.RenewRequest, context: object) -> object:
        self.seen["renew"] += 1
        self.held[request.request_id].attempt = request.attempt
        if self.script.lost_renewals > 0:
            self.script.lost_renewals -= 1
            raise Unavailable(message="the connection broke", reason=Reason.CHANNEL_BROKEN)
        await asyncio.sleep(self.script.renewal_s)
        return decode_pb2.RenewResponse()

    async def StartLocal(self, request: decode_pb2.StartLocalRequest, context: object) -> object:
        work = self._take("local", request.work)
        held = self.held[work.request] = Held(work=work, attempt=work.attempt)
        held.task = asyncio.create_task(self._play_decode(held))
        return decode_pb2.StartLocalResponse()

    # PrefillService

    async def Prefill(self, request: prefill_pb2.PrefillRequest, context: object) -> object:
        work = self._take("prefill", request.work)
        held = self.held[work.request] = Held(work=work, attempt=work.attempt)
        decode = worker_from_wire(request.destination.worker)
        held.task = asyncio.create_task(self._play_prefill(held, decode, request.destination.reservation_id))
        return prefill_pb2.PrefillResponse()

    def _take(self, what: str, wire: types_pb2.Work) -> Work:
        self.seen[what] += 1
        if self.script.refusals > 0:
            self.script.refusals -= 1
            raise Refused(message="no pages", reason=Reason.NO_PAGES)
        work = work_from_wire(wire, now=asyncio.get_running_loop().time())
        self.works.append(work)
        return work

    def _drop(self, name: str) -> None:
        held = self.held.pop(name)
        if held.task is not None:
            held.task.cancel()

    def _fail(self, held: Held, reason: Reason, *, stands: bool = False) -> None:
        self.held.pop(held.work.request, None)
        self.emit(
            WorkFailed(
                request=held.work.request,
                attempt=held.attempt,
                reason=reason,
                message="as scripted",
                role=self.role,
                reservation_stands=stands,
            )
        )

    async def _play_prefill(self, held: Held, decode: WorkerRef, reservation: str) -> None:
        await asyncio.sleep(self.script.prefill_s)
        work = held.work
        if self.script.internal_errors > 0:
            self.script.internal_errors -= 1
            return self._fail(held, Reason.INTERNAL)
        done = PrefillDone(
            request=work.request,
            attempt=held.attempt,
            prompt_tokens=len(work.prompt),
            cached_tokens=0,
            computed_tokens=len(work.prompt),
        )
        self.emit(*(self._token(held, choice.index, work.first_index) for choice in work.choices), done)
        await asyncio.sleep(0.005)
        if self.script.transfer_failures > 0:
            self.script.transfer_failures -= 1
            return self._fail(held, Reason.TRANSFER_FAILED, stands=True)
        self.held.pop(work.request, None)
        peer = self._stage.workers.get(decode.worker)
        if peer is not None and peer.epoch == decode.epoch:
            peer.adopt(reservation, held.attempt)
        return None

    def adopt(self, reservation: str, attempt: int) -> None:
        """The pages of this attempt landed."""
        held = self.held.get(reservation)
        if held is not None and held.attempt == attempt and held.task is None:
            held.task = asyncio.create_task(self._play_decode(held))

    async def _play_decode(self, held: Held) -> None:
        work = held.work
        if self.script.internal_errors > 0:
            self.script.internal_errors -= 1
            return self._fail(held, Reason.INTERNAL)
        last = {choice.index: self._length(work) for choice in work.choices}
        for index in range(work.first_index, self._length(work)):
            if self.script.silent_after is not None and index >= self.script.silent_after:
                return None
            self.emit(*(self._token(held, choice, index) for choice in last))
            await asyncio.sleep(self.script.step_s)
        self.held.pop(work.request, None)
        return None

    def _length(self, work: Work) -> int:
        stop = self.script.stop_token_at
        return work.sampling.max_tokens if stop is None else min(stop + 1, work.sampling.max_tokens)

    def _token(self, held: Held, choice: int, index: int) -> TokensEmitted:
        is_last = index + 1 >= self._length(held.work)
        stopped = is_last and index + 1 < held.work.sampling.max_tokens
        finish = (FinishReason.STOP if stopped else FinishReason.LENGTH) if is_last else None
        return TokensEmitted(
            request=held.work.request,
            attempt=held.attempt,
            choice=choice,
            first_index=index,
            tokens=(true_token(choice, index),),
            finish=finish,
            stop_token=true_token(choice, index) if stopped else None,
        )
