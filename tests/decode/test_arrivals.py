"""Between the transfer room and the core: a door that is closed stays closed."""

import pytest

from common.core.clock import ManualClock
from common.core.errors import NotFound, Reason
from common.core.ids import Epoch, ReservationId, WorkerId, WorkerRef
from common.engine.loop import Turns
from common.transfer.counters import TransferCounters
from common.transfer.inbound import InboundTransfers
from common.transfer.limits import TransferLimits
from services.decode.arrivals import Arrivals
from services.decode.messages import DecodeEvent, ReservationClosed
from services.decode.reservations import Promise
from tests.engine.relay import make_decode
from tests.engine.rig import LAYOUT, work

ME = WorkerRef(WorkerId("d"), Epoch(2), "d:1")


def test_a_promise_that_was_closed_before_its_door_opened_leaves_nothing_behind() -> None:
    """The step loop may close a promise in the turn in which it made it, before the servicer hears of either."""
    clock = ManualClock()
    limits = TransferLimits()
    inbound = InboundTransfers(ME, max_run_bytes=1 << 20, limits=limits, counters=TransferCounters(), clock=clock)
    core = make_decode(clock).core
    turns: Turns[DecodeEvent] = Turns(core, deliver=lambda _: None)
    arrivals = Arrivals(core=core, turns=turns, inbound=inbound, layout=LAYOUT, tell=lambda *_: None)
    promise = Promise(reservation=ReservationId("res-1"), total_pages=3, held_pages=0)
    arrivals.closed(ReservationClosed(reservation=promise.reservation, is_adopted=False))
    with pytest.raises(NotFound) as refused:
        arrivals.expect(work("r", [1, 2, 3]), promise, 1)
    assert refused.value.reason is Reason.RESERVATION_NOT_FOUND
    assert len(inbound) == 0
    assert arrivals.work_of(promise.reservation) is None
