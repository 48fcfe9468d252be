"""Places work on workers as a gateway does that calls prefill first: no promise, a ticket, a fetch. No router."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import grpc

from common.core.errors import BatonError
from common.core.events import TicketIssued, TokensEmitted, WorkEvent, WorkFailed
from common.core.ids import Epoch, RequestId, RouterId, RouterRef, TokenId
from common.core.request import TokenSampling, Work
from common.core.ticket import PrefixTicket, Ticket
from common.rpc.client import call, stream
from common.rpc.convert.events import message_from_wire
from common.rpc.convert.kv import prefix_to_wire, ticket_from_wire, ticket_to_wire
from common.rpc.convert.work import router_to_wire, work_to_wire
from protos.baton.v1 import decode_pb2, decode_pb2_grpc, prefill_pb2, prefill_pb2_grpc, worker_pb2, worker_pb2_grpc
from services.router.request import mint_choices
from tests.sim.oracle import Ask
from tests.sim.transport import memory_connect
from tests.sim.world import World

ME = RouterRef(RouterId("placer"), Epoch(77))
PREFILL, DECODE = "prefill-0", "decode-0"
CALL_S = 5.0


@dataclass
class Heard:
    """What both workers said about one work."""

    events: list[WorkEvent] = field(default_factory=list)

    @property
    def ticket(self) -> Ticket | None:
        return next((event.ticket for event in self.events if isinstance(event, TicketIssued)), None)

    @property
    def failure(self) -> WorkFailed | None:
        return next((event for event in self.events if isinstance(event, WorkFailed)), None)

    def tokens(self, choice: int = 0) -> tuple[int, ...]:
        """By index, whoever said them; both must agree where both spoke."""
        tokens: dict[int, TokenId] = {}
        for event in self.events:
            if isinstance(event, TokensEmitted) and event.choice == choice:
                for index, token in enumerate(event.tokens, event.first_index):
                    assert tokens.setdefault(index, token) == token, f"two tokens at index {index}"
        assert sorted(tokens) == list(range(len(tokens))), f"a gap in {sorted(tokens)}"
        return tuple(tokens[index] for index in sorted(tokens))

    def has_ended(self, num_choices: int) -> bool:
        ended = {e.choice for e in self.events if isinstance(e, TokensEmitted) and e.finish is not None}
        return len(ended) == num_choices or self.failure is not None


class Placer:
    """One prefill and one decode worker, spoken to by hand."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.heard: dict[RequestId, Heard] = {}
        self._listening: list[asyncio.Task[None]] = []
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def __aenter__(self) -> Self:
        for name in (PREFILL, DECODE):
            self._listening.append(asyncio.create_task(self._listen(name), name=f"placer hears {name}"))
        await asyncio.sleep(0.05)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._listening:
            task.cancel()
        await asyncio.wait(self._listening)
        for channel in self._channels.values():
            await channel.close()

    def work(self, ask: Ask, attempt: int = 1) -> Work:
        sampling = TokenSampling(temperature=ask.temperature, max_tokens=ask.max_tokens, ignore_eos=ask.ignore_eos)
        request = RequestId(ask.name)
        self.heard[request] = Heard()
        return Work(
            request=request,
            attempt=attempt,
            prompt=tuple(map(TokenId, ask.prompt)),
            choices=mint_choices(ask.seed, ask.n),
            sampling=sampling,
            deadline=self.world.loop.time() + 60.0,
            cache_scope=bytes(range(32)),
            router=ME,
        )

    async def read(self, work: Work) -> Ticket:
        """Prefill without a destination, until its ticket is here."""
        wire = work_to_wire(work, now=self.world.loop.time())
        stub = prefill_pb2_grpc.PrefillServiceStub(self._channel(PREFILL))
        request = prefill_pb2.PrefillRequest(work=wire)
        await call(stub.Prefill, request, peer=PREFILL, timeout_s=CALL_S)
        heard = self.heard[work.request]
        await self.until(lambda: heard.ticket is not None or heard.failure is not None)
        assert heard.ticket is not None, heard.failure
        return heard.ticket

    async def write(self, work: Work, ticket: Ticket) -> None:
        """Decode fetches and goes on. Raises what Reserve raised."""
        wire = work_to_wire(work, now=self.world.loop.time())
        stub = decode_pb2_grpc.DecodeServiceStub(self._channel(DECODE))
        request = decode_pb2.ReserveRequest(work=wire, ticket=ticket_to_wire(ticket))
        await call(stub.Reserve, request, peer=DECODE, timeout_s=CALL_S)

    async def keep(self, name: str, work: Work, lease_s: float = 2.0) -> Ticket | None:
        """What a worker's cache holds of the work's context, kept for another one."""
        wire = work_to_wire(work, now=self.world.loop.time())
        stub = worker_pb2_grpc.WorkerServiceStub(self._channel(name))
        request = worker_pb2.KeepPrefixRequest(work=wire, lease_ms=round(lease_s * 1000))
        answer = await call(stub.KeepPrefix, request, peer=name, timeout_s=CALL_S)
        return ticket_from_wire(answer.ticket) if answer.HasField("ticket") else None

    async def start_local(self, work: Work, prefix: PrefixTicket | None) -> None:
        """Decode reads the prompt itself, once its cached pages are there."""
        wire = work_to_wire(work, now=self.world.loop.time())
        stub = decode_pb2_grpc.DecodeServiceStub(self._channel(DECODE))
        request = decode_pb2.StartLocalRequest(work=wire, prefix=prefix_to_wire(prefix))
        await call(stub.StartLocal, request, peer=DECODE, timeout_s=CALL_S)

    async def hand_off(self, work: Work, prefix: PrefixTicket | None) -> None:
        """Prefill reads it for decode, once its cached pages are there."""
        wire = work_to_wire(work, now=self.world.loop.time())
        stub = decode_pb2_grpc.DecodeServiceStub(self._channel(DECODE))
        promise = await call(stub.Reserve, decode_pb2.ReserveRequest(work=wire), peer=DECODE, timeout_s=CALL_S)
        destination = prefill_pb2.Destination(
            worker=promise.worker, reservation_id=promise.reservation_id, held_pages=promise.held_pages
        )
        reader = prefill_pb2_grpc.PrefillServiceStub(self._channel(PREFILL))
        request = prefill_pb2.PrefillRequest(work=wire, destination=destination, prefix=prefix_to_wire(prefix))
        await call(reader.Prefill, request, peer=PREFILL, timeout_s=CALL_S)

    async def cancel(self, name: str, work: Work) -> None:
        item = worker_pb2.CancelItem(request_id=work.request, attempt=work.attempt)
        request = worker_pb2.CancelWorkRequest(router=router_to_wire(ME), items=[item])
        stub = worker_pb2_grpc.WorkerServiceStub(self._channel(name))
        await call(stub.CancelWork, request, peer=name, timeout_s=CALL_S)

    async def wait_end(self, work: Work, within_s: float = 30.0) -> Heard:
        heard = self.heard[work.request]
        await self.until(lambda: heard.has_ended(len(work.choices)), within_s)
        return heard

    async def until(self, condition: Callable[[], bool], within_s: float = 30.0) -> None:
        """In virtual time."""
        async with asyncio.timeout(within_s):
            while not condition():
                await asyncio.sleep(0.01)

    def counters(self, name: str) -> dict[str, float]:
        node = self.world.workers[name].node
        assert node is not None
        return dict(node.counters())

    def num_held(self, name: str) -> int:
        """Pages that somebody reads or that are promised, at this worker."""
        counts = self.world.workers[name].engine.cache.counts()
        return counts.referenced + counts.promised

    def _channel(self, name: str) -> grpc.aio.Channel:
        if name not in self._channels:
            connect = memory_connect(self.world.network, "placer")
            self._channels[name] = connect(f"127.0.0.1:{self.world.workers[name].port}")
        return self._channels[name]

    async def _listen(self, name: str) -> None:
        stub = worker_pb2_grpc.WorkerServiceStub(self._channel(name))
        request = worker_pb2.SubscribeRequest(router=router_to_wire(ME))
        try:
            async with stream(stub.Subscribe, request, peer=name, timeout_s=600.0) as messages:
                async for wire in messages:
                    for event in message_from_wire(wire, now=self.world.loop.time()).events:
                        self.heard[event.request].events.append(event)
        except BatonError as error:
            self.world.trace.say(f"placer lost {name}: {error!r}")
