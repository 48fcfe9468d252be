"""Between the transfer room and the core: a door that is closed stays closed."""

import pytest

from common.core.clock import ManualClock
from common.core.errors import NotFound, Reason
from common.core.ids import Epoch, ReservationId, WorkerId, WorkerRef
from common.engine.loop import Turns
from common.transfer.counters import TransferCounters
from common.transfer.inbound import InboundTransfers
from common.transfer.limits import TransferLimits
from common.transfer.offload import InlineOffload
from common.worker.landing import Lander
from common.worker.permit import Permit
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
    side = make_decode(clock)
    core = side.core
    turns: Turns[DecodeEvent] = Turns(core, deliver=lambda _: None)
    lander = Lander(
        turns=turns,
        inbound=inbound,
        storage=side.rig.storage,
        offload=InlineOffload(),
        piece_bytes=LAYOUT.page_bytes,
        clock=clock,
    )
    arrivals = Arrivals(core=core, turns=turns, inbound=inbound, lander=lander, layout=LAYOUT, tell=lambda *_: None)
    name = ReservationId("res-1")
    promise = Promise(
        reservation=name,
        total_pages=3,
        held_pages=0,
        permit=Permit(reservation=name, attempt=1, first_page=0, pages=()),
    )
    arrivals.closed(ReservationClosed(reservation=promise.reservation, is_adopted=False))
    with pytest.raises(NotFound) as refused:
        arrivals.expect(work("r", [1, 2, 3]), promise, 1)
    assert refused.value.reason is Reason.RESERVATION_NOT_FOUND
    assert len(inbound) == 0
    assert arrivals.work_of(promise.reservation) is None
