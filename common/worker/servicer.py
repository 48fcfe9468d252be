"""WorkerService, the same for every role: events, cancellation, state, drain."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from common.core.clock import Clock
from common.core.errors import Reason
from common.core.ids import RequestId, RouterRef
from common.core.request import Work
from common.core.ticket import Ticket
from common.kv.scheme import scheme_fingerprint
from common.rpc.convert.columns import ColumnsWriter
from common.rpc.convert.events import message_to_wire
from common.rpc.convert.fields import ROLES, require
from common.rpc.convert.kv import layout_to_wire, ticket_to_wire
from common.rpc.convert.work import router_from_wire, work_from_wire
from common.rpc.convert.worker import load_to_wire, worker_to_wire
from common.rpc.server import Service
from common.worker.presence import Presence
from common.worker.subscriptions import Subscriptions
from protos.baton.v1 import worker_pb2, worker_pb2_grpc

if TYPE_CHECKING:
    from protos.baton.v1.worker_pb2_grpc import _ServicerContext as Context

MAX_CANCEL_ITEMS = 4096
"""Chosen: more than a worker runs at once; a longer list is a mistake."""

MAX_GRACE_S = 3600.0
"""As `baton drain --grace` and `liveness.drain_s` allow at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelItem:
    """Every attempt of a request up to `attempt` is over; with `choices`, only those of its choices that run."""

    request: RequestId
    attempt: int
    reason: Reason
    choices: tuple[int, ...] = ()


def attempts_over(items: Iterable[CancelItem]) -> Mapping[RequestId, int]:
    """The highest attempt of each request that is over as a whole."""
    over: dict[RequestId, int] = {}
    for item in items:
        if not item.choices:
            over[item.request] = max(item.attempt, over.get(item.request, 0))
    return over


class WorkerCore(Protocol):
    """What a role offers to this servicer. Called on the event loop; work is passed on to the step loop."""

    def cancel(self, router: RouterRef, items: tuple[CancelItem, ...]) -> None:
        """Returns at once. Unknown requests are ignored, and remembered: the placement may arrive after its cancel."""
        ...

    async def keep_prefix(self, work: Work, lease_s: float) -> Ticket | None:
        """Keeps what the cache holds of the work's context; None where that is nothing. Raises Refused."""
        ...


class WorkerHost(Protocol):
    """What the node around the role offers to this servicer, the same for both."""

    def counters(self) -> Mapping[str, float]:
        """Page accounting and counters by name, as of one moment between two steps."""
        ...

    async def drain(self, grace_s: float) -> int:
        """Finish what runs, for at most `grace_s`. Returns the number of sequences that are left."""
        ...


class WorkerServicer(worker_pb2_grpc.WorkerServiceServicer):
    """Keeps no state of its own."""

    def __init__(
        self, core: WorkerCore, host: WorkerHost, subscriptions: Subscriptions, presence: Presence, *, clock: Clock
    ) -> None:
        self._core = core
        self._host = host
        self._subscriptions = subscriptions
        self._presence = presence
        self._clock = clock

    async def Subscribe(
        self, request: worker_pb2.SubscribeRequest, context: "Context"
    ) -> AsyncIterator[worker_pb2.SubscribeResponse]:
        stream = self._subscriptions.stream(
            router_from_wire(request.router), load_may_be_absent=request.load_may_be_absent
        )
        to_wire = ColumnsWriter().message if request.reads_columns else message_to_wire
        async with aclosing(stream) as messages:
            async for message in messages:
                yield to_wire(message, now=self._clock.monotonic())

    async def CancelWork(
        self, request: worker_pb2.CancelWorkRequest, context: "Context"
    ) -> worker_pb2.CancelWorkResponse:
        too_many = f"{len(request.items)} items, at most {MAX_CANCEL_ITEMS}"
        require(len(request.items) <= MAX_CANCEL_ITEMS, "items", too_many)
        self._core.cancel(router_from_wire(request.router), tuple(map(_cancel_item, request.items)))
        return worker_pb2.CancelWorkResponse()

    async def KeepPrefix(
        self, request: worker_pb2.KeepPrefixRequest, context: "Context"
    ) -> worker_pb2.KeepPrefixResponse:
        work = work_from_wire(request.work, now=self._clock.monotonic())
        ticket = await self._core.keep_prefix(work, request.lease_ms / 1000)
        return worker_pb2.KeepPrefixResponse(ticket=None if ticket is None else ticket_to_wire(ticket))

    async def GetStatus(self, request: worker_pb2.GetStatusRequest, context: "Context") -> worker_pb2.GetStatusResponse:
        presence = self._presence
        return worker_pb2.GetStatusResponse(
            worker=worker_to_wire(presence.worker),
            role=ROLES[presence.role],
            layout=layout_to_wire(presence.layout, scheme_fingerprint()),
            load=load_to_wire(presence.load()),
            state=presence.state.value,
            counters=self._host.counters(),
        )

    async def Drain(self, request: worker_pb2.DrainRequest, context: "Context") -> worker_pb2.DrainResponse:
        self._presence.begin_drain()
        left = await self._host.drain(min(request.grace_ms / 1000, MAX_GRACE_S))
        return worker_pb2.DrainResponse(active_sequences=left)


def worker_service(servicer: WorkerServicer) -> Service:
    """For `serve`."""
    return Service(
        name="baton.v1.WorkerService",
        add=partial(worker_pb2_grpc.add_WorkerServiceServicer_to_server, servicer),
    )


def _cancel_item(item: worker_pb2.CancelItem) -> CancelItem:
    require(item.request_id != "", "items.request_id", "missing")
    known = item.reason in Reason.__members__
    return CancelItem(
        request=RequestId(item.request_id),
        attempt=item.attempt,
        choices=tuple(item.choices),
        reason=Reason(item.reason) if known else Reason.CANCELLED,
    )
