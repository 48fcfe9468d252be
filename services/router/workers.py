"""What a router says to workers: calls and one long subscription, in the core's words. The only file that dials."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from common.core.clock import Clock
from common.core.errors import DeadlineExceeded, NotFound, Reason
from common.core.events import EventMessage
from common.core.ids import RequestId, ReservationId, RouterRef, WorkerRef
from common.core.request import Work
from common.core.ticket import PrefixTicket, Ticket
from common.observe.lag import LostTime, never_late
from common.observe.patience import MAX_TIMES, Patience
from common.rpc.client import Dialer, call, stream
from common.rpc.convert.columns import ColumnsReader
from common.rpc.convert.kv import prefix_to_wire, ticket_from_wire, ticket_to_wire
from common.rpc.convert.work import router_to_wire, work_to_wire
from common.rpc.convert.worker import worker_to_wire
from common.rpc.errors import ORIGIN_FACT, TRANSPORT
from protos.baton.v1 import (
    decode_pb2,
    decode_pb2_grpc,
    prefill_pb2,
    prefill_pb2_grpc,
    types_pb2,
    worker_pb2,
    worker_pb2_grpc,
)

if TYPE_CHECKING:
    import grpc

Q = TypeVar("Q")
A = TypeVar("A")

PLACE_S = 1.0
"""Deadline of a placement call. Chosen: a healthy worker answers between two steps; longer than this it is not one."""

FETCH_S = 3.0
"""The same where the worker asks another one for pages before it answers: that call has a second, and a second try."""

CANCEL_S = 0.5
"""Deadline of a cancel. What does not arrive in it is ended by the lease on the worker's side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """Pages that a decode worker set aside. The first `held_pages` are filled already and are not sent."""

    worker: WorkerRef
    reservation: ReservationId
    total_pages: int
    held_pages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Every attempt of a work up to this one is over; with `choices`, only those of its choices."""

    work: RequestId
    attempt: int
    reason: Reason
    choices: tuple[int, ...] = ()


class Workers:
    """Calls to whichever worker. Every method raises the BatonError that the worker raised, or Unavailable,
    DeadlineExceeded or Fenced where the transport failed: the leg decides what each means.

    `lost_s`: time that this process's loop stood still, in which no answer could be read.
    """

    def __init__(self, *, dialer: Dialer, router: RouterRef, clock: Clock, lost_s: LostTime = never_late) -> None:
        self._dialer = dialer
        self._router = router
        self._clock = clock
        self._lost_s = lost_s

    async def reserve(self, decode: WorkerRef, work: Work, ticket: Ticket | None = None) -> Promise:
        """`ticket`: for pages that another worker keeps, and that are fetched at once."""
        stub = decode_pb2_grpc.DecodeServiceStub(await self._dialer.channel(decode))
        wire = None if ticket is None else ticket_to_wire(ticket)
        request = decode_pb2.ReserveRequest(work=self._wire(work), ticket=wire)
        patience_s = self._patience_s(work, PLACE_S if ticket is None else FETCH_S)
        answer = await self._ask(stub.Reserve, request, decode, patience_s)
        return Promise(
            worker=decode,
            reservation=ReservationId(answer.reservation_id),
            total_pages=answer.total_pages,
            held_pages=answer.held_pages,
        )

    async def renew(self, promise: Promise, work: Work) -> Promise:
        """The same promise for a later attempt. Raises NotFound when it is gone or was kept already."""
        stub = decode_pb2_grpc.DecodeServiceStub(await self._dialer.channel(promise.worker))
        request = decode_pb2.RenewRequest(
            reservation_id=promise.reservation, request_id=work.request, attempt=work.attempt
        )
        answer = await self._ask(stub.Renew, request, promise.worker, self._patience_s(work))
        return Promise(
            worker=promise.worker,
            reservation=promise.reservation,
            total_pages=promise.total_pages,
            held_pages=answer.held_pages,
        )

    async def hand_over(self, decode: WorkerRef, work: Work) -> int:
        """Asks a worker to stop writing this work and to keep its pages; how many sequences that stopped."""
        stub = decode_pb2_grpc.DecodeServiceStub(await self._dialer.channel(decode))
        request = decode_pb2.HandOverRequest(request_id=work.request, attempt=work.attempt)
        answer = await self._ask(stub.HandOver, request, decode, self._patience_s(work))
        return answer.num_sequences

    async def keep_prefix(self, holder: WorkerRef, work: Work, patience_s: float) -> Ticket | None:
        """Has a worker keep what its cache holds of the work's context, as long as the question may take. None: nothing
        is there any more."""
        stub = worker_pb2_grpc.WorkerServiceStub(await self._dialer.channel(holder))
        patience_s = self._patience_s(work, patience_s)
        request = worker_pb2.KeepPrefixRequest(work=self._wire(work), lease_ms=round(1000 * patience_s))
        answer = await call(stub.KeepPrefix, request, peer=holder.worker, timeout_s=patience_s)
        return ticket_from_wire(answer.ticket) if answer.HasField("ticket") else None

    async def start_local(self, decode: WorkerRef, work: Work, prefix: PrefixTicket | None = None) -> None:
        """`prefix`: cached pages of another worker, which it fetches first."""
        stub = decode_pb2_grpc.DecodeServiceStub(await self._dialer.channel(decode))
        request = decode_pb2.StartLocalRequest(work=self._wire(work), prefix=prefix_to_wire(prefix))
        await self._ask(stub.StartLocal, request, decode, self._fetch_s(work, prefix))

    async def prefill(
        self, prefill: WorkerRef, work: Work, promise: Promise, prefix: PrefixTicket | None = None
    ) -> None:
        """`prefix`: as for `start_local`."""
        stub = prefill_pb2_grpc.PrefillServiceStub(await self._dialer.channel(prefill))
        destination = prefill_pb2.Destination(
            worker=worker_to_wire(promise.worker),
            reservation_id=promise.reservation,
            held_pages=promise.held_pages,
        )
        request = prefill_pb2.PrefillRequest(
            work=self._wire(work), destination=destination, prefix=prefix_to_wire(prefix)
        )
        await self._ask(stub.Prefill, request, prefill, self._fetch_s(work, prefix))

    async def cancel(self, worker: WorkerRef, cancels: Sequence[Cancel]) -> None:
        stub = worker_pb2_grpc.WorkerServiceStub(await self._dialer.channel(worker))
        items = [
            worker_pb2.CancelItem(
                request_id=cancel.work, attempt=cancel.attempt, reason=cancel.reason.value, choices=cancel.choices
            )
            for cancel in cancels
        ]
        request = worker_pb2.CancelWorkRequest(router=router_to_wire(self._router), items=items)
        await call(stub.CancelWork, request, peer=worker.worker, timeout_s=CANCEL_S)

    @asynccontextmanager
    async def subscribe(self, worker: WorkerRef) -> AsyncIterator[AsyncIterator[EventMessage]]:
        """The worker's messages to this router, as long as the block lasts. Another incarnation's raise NotFound."""
        stub = worker_pb2_grpc.WorkerServiceStub(await self._dialer.channel(worker))
        me = router_to_wire(self._router)
        request = worker_pb2.SubscribeRequest(router=me, load_may_be_absent=True, reads_columns=True)
        async with stream(stub.Subscribe, request, peer=worker.worker, timeout_s=None) as responses:
            yield self._messages(worker, responses)

    async def forget(self, worker: WorkerRef) -> None:
        """Closes the channel to an incarnation that is gone."""
        await self._dialer.drop(worker)

    async def _ask(
        self, method: "grpc.aio.UnaryUnaryMultiCallable[Q, A]", request: Q, worker: WorkerRef, patience_s: float
    ) -> A:
        """A call that is held against the worker when it is not answered: so what this process lost itself is not
        counted, and the transport's own deadline, which knows of no loop, lies behind."""
        try:
            async with Patience(patience_s, self._lost_s):
                return await call(method, request, peer=worker.worker, timeout_s=MAX_TIMES * patience_s)
        except TimeoutError:
            raise DeadlineExceeded(
                message=f"{worker.worker}: no answer within {patience_s:.1f} s", facts={ORIGIN_FACT: TRANSPORT}
            ) from None

    async def _messages(
        self, worker: WorkerRef, responses: AsyncIterator[worker_pb2.SubscribeResponse]
    ) -> AsyncIterator[EventMessage]:
        reader = ColumnsReader()
        async for response in responses:
            message = reader.message(response, now=self._clock.monotonic())
            if (message.worker.worker, message.worker.epoch) != (worker.worker, worker.epoch):
                raise NotFound(
                    message=f"{worker.address} is {message.worker.worker} epoch {message.worker.epoch}, "
                    f"not {worker.worker} epoch {worker.epoch}",
                    reason=Reason.STALE_EPOCH,
                )
            yield message

    def _patience_s(self, work: Work, most_s: float = PLACE_S) -> float:
        return max(0.0, min(most_s, work.deadline - self._clock.monotonic()))

    def _fetch_s(self, work: Work, prefix: PrefixTicket | None) -> float:
        """Where pages are fetched, the worker hears from their holder before it answers."""
        return self._patience_s(work, PLACE_S + (0.0 if prefix is None else prefix.patience_s))

    def _wire(self, work: Work) -> types_pb2.Work:
        return work_to_wire(work, now=self._clock.monotonic())
