"""Between the transfer room and the core: what arrives goes to the lander, which verifies and acknowledges it.

Everything here runs on the event loop; the core hears of it through the step loop.
"""

from collections import OrderedDict
from collections.abc import Callable

from common.core.errors import NotFound, Reason
from common.core.events import WorkEvent, WorkFailed
from common.core.ids import ReservationId, RouterRef, TransferId
from common.core.request import Work
from common.core.step import Draw
from common.core.worker import Role
from common.engine.loop import Turns
from common.kv.layout import PageLayout
from common.transfer.expectation import Arrival, Expectation
from common.transfer.inbound import InboundTransfers
from common.transfer.messages import Finale, Outcome
from common.worker.landing import Lander
from services.decode.core import DecodeCore
from services.decode.messages import DecodeEvent, ReservationClosed
from services.decode.reservations import Opening, Promise

MAX_CLOSED = 4096
"""Chosen: a door opens within milliseconds of its promise; far fewer promises close meanwhile."""


class Arrivals:
    """The sink of every expected transfer. Writer: the event loop."""

    def __init__(
        self,
        *,
        core: DecodeCore,
        turns: Turns[DecodeEvent],
        inbound: InboundTransfers,
        lander: Lander,
        layout: PageLayout,
        tell: Callable[[RouterRef, WorkEvent], None],
    ) -> None:
        self._core = core
        self._turns = turns
        self._inbound = inbound
        self._lander = lander
        self._layout = layout
        self._tell = tell
        self._promises: dict[ReservationId, Promise] = {}
        """As renewed for the attempt that is expected."""
        self._works: dict[ReservationId, Work] = {}
        self._closed: OrderedDict[ReservationId, None] = OrderedDict()

    def expect(self, work: Work, promise: Promise, attempt: int, *, must_begin_s: float | None = None) -> TransferId:
        """Open the door for one attempt to fill a promise. `must_begin_s`: see Expectation.

        Raises Fenced for an attempt that is over, NotFound for a promise that ended between its making and this call.
        """
        if promise.reservation in self._closed:
            raise NotFound(
                message=f"{promise.reservation} of {work.request} has ended already",
                reason=Reason.RESERVATION_NOT_FOUND,
            )
        transfer = TransferId(promise.reservation, attempt)
        expectation = Expectation(
            transfer=transfer,
            request=work.request,
            total_pages=promise.total_pages,
            held_pages=promise.held_pages,
            page_bytes=self._layout.page_bytes,
            num_layers=self._layout.num_layers,
            choices=tuple(choice.index for choice in work.choices),
            verifies=True,
            must_begin_s=must_begin_s,
        )
        self._inbound.expect(expectation, self)
        self._works[promise.reservation] = work
        self._promises[promise.reservation] = promise
        return transfer

    def work_of(self, reservation: ReservationId) -> Work | None:
        """The work behind a standing promise."""
        return self._works.get(reservation)

    # What the transfer room says

    def on_run(self, arrival: Arrival) -> None:
        permit = self._promises[arrival.transfer.reservation].permit
        assert permit.attempt == arrival.transfer.attempt, f"{arrival.transfer} arrives under attempt {permit.attempt}"
        self._lander.add(arrival, permit, self._core)

    def on_finale(self, transfer: TransferId, finale: Finale) -> None:
        opening = Opening(
            first_tokens={
                first.choice: Draw(token=first.token, logprobs=first.logprobs) for first in finale.first_tokens
            },
            prompt_logprobs=finale.prompt_logprobs,
        )
        self._turns.post(lambda: self._core.complete(transfer.reservation, transfer.attempt, opening))

    def on_failed(self, transfer: TransferId, outcome: Outcome) -> None:
        """The promise stands: the router may renew it and point another prefill worker at it."""
        work = self._works.get(transfer.reservation)
        if work is None:
            return
        failed = WorkFailed(
            request=work.request,
            attempt=transfer.attempt,
            role=Role.PREFILL,
            reason=outcome.reason or Reason.TRANSFER_FAILED,
            message=outcome.message,
            reservation_stands=True,
        )
        self._tell(work.router, failed)

    # What the core says

    def closed(self, event: ReservationClosed) -> None:
        """Nothing more is wanted for this reservation."""
        self._closed[event.reservation] = None
        if len(self._closed) > MAX_CLOSED:
            self._closed.popitem(last=False)
        self._works.pop(event.reservation, None)
        self._promises.pop(event.reservation, None)
        self._inbound.forget(event.reservation)
