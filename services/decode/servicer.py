"""DecodeService on the wire: translates, asks the core between two steps, opens the door for the pages."""

from typing import TYPE_CHECKING, Any

from common.core.clock import Clock
from common.core.errors import NotFound, Reason
from common.core.ids import RequestId, ReservationId
from common.core.request import Work
from common.core.ticket import PrefixTicket
from common.engine.loop import Turns
from common.engine.rule import TokenRule
from common.rpc.convert.kv import prefix_from_wire, ticket_from_wire
from common.rpc.convert.work import work_from_wire
from common.rpc.convert.worker import worker_to_wire
from common.worker.prefix_desk import PrefixPromise
from common.worker.prefix_fetches import PrefixFetches
from common.worker.presence import Presence
from common.worker.rules import Rules
from protos.baton.v1 import decode_pb2, decode_pb2_grpc, types_pb2
from services.decode.arrivals import Arrivals
from services.decode.core import DecodeCore
from services.decode.fetching import Fetching
from services.decode.messages import DecodeEvent

if TYPE_CHECKING:
    import grpc

    Context = grpc.aio.ServicerContext[Any, Any]


class DecodeServicer(decode_pb2_grpc.DecodeServiceServicer):
    """Thin: every decision is the core's. Errors are BatonErrors, translated at the boundary."""

    def __init__(
        self,
        *,
        presence: Presence,
        core: DecodeCore,
        turns: Turns[DecodeEvent],
        arrivals: Arrivals,
        fetching: Fetching,
        fetches: PrefixFetches,
        rules: Rules,
        clock: Clock,
    ) -> None:
        self._presence = presence
        self._core = core
        self._turns = turns
        self._arrivals = arrivals
        self._fetching = fetching
        self._fetches = fetches
        self._rules = rules
        self._clock = clock

    async def Reserve(self, request: decode_pb2.ReserveRequest, context: "Context") -> decode_pb2.ReserveResponse:
        work, rule = await self._prepare(request.work)
        promise = await self._turns.call(lambda: self._core.reserve(work, rule))
        if request.HasField("ticket"):
            await self._fetching.begin(work, promise, ticket_from_wire(request.ticket))
        else:
            self._arrivals.expect(work, promise, work.attempt)
        return decode_pb2.ReserveResponse(
            reservation_id=promise.reservation,
            worker=worker_to_wire(self._presence.worker),
            total_pages=promise.total_pages,
            held_pages=promise.held_pages,
            promised_pages=promise.promised_pages,
        )

    async def Renew(self, request: decode_pb2.RenewRequest, context: "Context") -> decode_pb2.RenewResponse:
        reservation, attempt = ReservationId(request.reservation_id), request.attempt
        work = self._arrivals.work_of(reservation)
        if work is None or work.request != request.request_id:
            raise NotFound(
                message=f"{reservation} of {request.request_id} is not promised here (any more)",
                reason=Reason.RESERVATION_NOT_FOUND,
            )
        promise = await self._turns.call(lambda: self._core.renew(reservation, attempt))
        self._arrivals.expect(work, promise, attempt)
        return decode_pb2.RenewResponse(held_pages=promise.held_pages)

    async def StartLocal(
        self, request: decode_pb2.StartLocalRequest, context: "Context"
    ) -> decode_pb2.StartLocalResponse:
        work, rule = await self._prepare(request.work)
        if request.HasField("prefix"):
            await self._start_and_fetch(work, rule, prefix_from_wire(request.prefix))
        else:
            await self._turns.call(lambda: self._core.start_local(work, rule))
        return decode_pb2.StartLocalResponse()

    async def _prepare(self, wire: types_pb2.Work) -> tuple[Work, TokenRule | None]:
        """New work, and the state of its constraint. Raises Unavailable while this worker drains."""
        self._presence.require_ready()
        work = work_from_wire(wire, now=self._clock.monotonic())
        rule = await self._rules.prepare(work)
        self._presence.require_ready()  # a drain that began meanwhile does not wait for it
        return work, rule

    async def _start_and_fetch(self, work: Work, rule: TokenRule | None, prefix: PrefixTicket) -> None:
        """In one turn, so that it does not begin without its pages."""

        def start() -> PrefixPromise | None:
            self._core.start_local(work, rule)
            return self._core.fetch_prefix(work, prefix.ticket.num_pages)

        promise = await self._turns.call(start)
        if promise is not None:
            await self._fetches.begin(work, promise, prefix)

    async def HandOver(self, request: decode_pb2.HandOverRequest, context: "Context") -> decode_pb2.HandOverResponse:
        name, attempt = RequestId(request.request_id), request.attempt
        num = await self._turns.call(lambda: self._core.hand_over(name, attempt))
        return decode_pb2.HandOverResponse(num_sequences=num)
