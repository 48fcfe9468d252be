"""PrefillService on the wire: translates and queues the prompt with the core."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from common.core.clock import Clock
from common.core.errors import FieldViolation, InvalidRequest
from common.core.ids import ReservationId, WorkerRef
from common.core.request import Work
from common.core.ticket import PrefixTicket
from common.engine.loop import Turns
from common.engine.rule import TokenRule
from common.rpc.convert.kv import prefix_from_wire
from common.rpc.convert.work import work_from_wire
from common.rpc.convert.worker import worker_from_wire
from common.worker.prefix_desk import PrefixPromise
from common.worker.prefix_fetches import PrefixFetches
from common.worker.presence import Presence
from common.worker.rules import Rules
from protos.baton.v1 import prefill_pb2, prefill_pb2_grpc
from services.prefill.core import PrefillCore
from services.prefill.messages import Destination, PrefillEvent

if TYPE_CHECKING:
    import grpc

    Context = grpc.aio.ServicerContext[Any, Any]


class PrefillServicer(prefill_pb2_grpc.PrefillServiceServicer):
    """Thin: every decision is the core's. Errors are BatonErrors, translated at the boundary."""

    def __init__(
        self,
        *,
        presence: Presence,
        core: PrefillCore,
        turns: Turns[PrefillEvent],
        fetches: PrefixFetches,
        rules: Rules,
        takes_layers: Callable[[WorkerRef], bool],
        clock: Clock,
    ) -> None:
        self._presence = presence
        self._core = core
        self._turns = turns
        self._fetches = fetches
        self._rules = rules
        self._takes_layers = takes_layers
        self._clock = clock

    async def Prefill(self, request: prefill_pb2.PrefillRequest, context: "Context") -> prefill_pb2.PrefillResponse:
        self._presence.require_ready()
        work = work_from_wire(request.work, now=self._clock.monotonic())
        destination = _destination(request)
        if destination is not None:
            destination = replace(destination, takes_layers=self._takes_layers(destination.worker))
        rule = await self._rules.prepare(work)
        self._presence.require_ready()  # a drain that began meanwhile does not wait for it
        if not request.HasField("prefix"):
            ahead = await self._turns.call(lambda: self._core.submit(work, destination, rule))
        else:
            ahead = await self._submit_and_fetch(work, destination, rule, prefix_from_wire(request.prefix))
        return prefill_pb2.PrefillResponse(queue_position=ahead)

    async def _submit_and_fetch(
        self, work: Work, destination: Destination | None, rule: TokenRule | None, prefix: PrefixTicket
    ) -> int:
        """In one turn, so that it does not begin without its pages."""

        def submit() -> tuple[int, PrefixPromise | None]:
            ahead = self._core.submit(work, destination, rule)
            return ahead, self._core.fetch_prefix(work, prefix.ticket.num_pages)

        ahead, promise = await self._turns.call(submit)
        if promise is not None:
            await self._fetches.begin(work, promise, prefix)
        return ahead


def _destination(request: prefill_pb2.PrefillRequest) -> Destination | None:
    """None: the pages are to be kept here."""
    if not request.HasField("destination"):
        return None
    if not request.destination.reservation_id:
        raise InvalidRequest(
            message="a destination without a promise: reserve pages on a decode worker first",
            violations=(FieldViolation(field="destination.reservation_id", description="must name a promise"),),
        )
    return Destination(
        worker=worker_from_wire(request.destination.worker),
        reservation=ReservationId(request.destination.reservation_id),
        held_pages=request.destination.held_pages,
    )
