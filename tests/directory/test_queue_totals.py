"""Goal: several routers add up to one cluster, nothing twice, and unknown stays unknown. Method: reports by hand."""

from dataclasses import replace

from common.core.ids import Epoch, RouterId, RouterRef, WorkerId, WorkerRef
from common.core.queue import Cause, QueueDepth, QueueReport
from common.core.request import Priority
from common.core.worker import LoadReport, Member, PageCounts, Role, WorkerState
from common.directory.codec import QueueView
from common.directory.queue_totals import RoleTotals, queue_totals

PAGES = PageCounts(total=8, free=8, promised=0, referenced=0, cached=0)


def view(name: str, *depths: QueueDepth, admission_s: float | None = None) -> QueueView:
    report = QueueReport(depths=depths, decode_admission_s=admission_s)
    return QueueView(router=RouterRef(router=RouterId(name), epoch=Epoch(1)), report=report)


def depth(requests: int, queue_s: float | None, cause: Cause | None = None) -> QueueDepth:
    return QueueDepth(
        role=Role.DECODE,
        priority=Priority.STANDARD,
        requests=requests,
        uncached_tokens=10 * requests,
        queue_s=queue_s,
        cause=cause,
    )


def member(role: Role, exports: int) -> Member:
    return Member(
        worker=WorkerRef(worker=WorkerId(f"{role}-0"), epoch=Epoch(1), address="127.0.0.1:1"),
        role=role,
        state=WorkerState.READY,
        load=LoadReport(pages=PAGES, waiting_requests=2, waiting_tokens=32, outstanding_exports=exports),
        layout_fingerprint=b"",
    )


def decode(*views: QueueView) -> RoleTotals:
    totals = queue_totals(views, ())
    assert totals is not None
    return next(each for each in totals.roles if each.role is Role.DECODE)


def test_requests_of_all_routers_add_up_and_the_longest_wait_counts() -> None:
    totals = decode(view("a", depth(3, 1.5, Cause.DECODE_FULL)), view("b", depth(2, 4.0, Cause.ROUTER_FULL)))
    assert (totals.requests, totals.uncached_tokens, totals.queue_s) == (5, 50, 4.0)
    assert totals.causes == {Cause.DECODE_FULL, Cause.ROUTER_FULL}


def test_a_router_that_does_not_know_makes_the_sum_unknown_and_one_that_is_empty_does_not() -> None:
    assert decode(view("a", depth(3, 1.5)), view("b", depth(1, None))).queue_s is None
    assert decode(view("a", depth(3, 1.5)), view("b", depth(0, None))).queue_s == 1.5
    assert decode(view("a", depth(0, 0.0))).queue_s == 0.0


def test_what_workers_hold_is_counted_once_however_many_routers_see_it() -> None:
    members = (member(Role.DECODE, 0), member(Role.PREFILL, 3))
    totals = queue_totals((view("a"), view("b")), members)
    assert totals is not None
    prefill, decoding = totals.roles
    assert (prefill.outstanding_exports, prefill.worker_tokens, prefill.num_workers) == (3, 32, 1)
    assert (decoding.outstanding_exports, decoding.worker_requests) == (0, 2)
    leaving = queue_totals((view("a"),), (replace(members[1], state=WorkerState.DRAINING),))
    assert leaving is not None
    assert leaving.roles[0].num_workers == 0


def test_no_board_is_not_an_empty_board() -> None:
    assert queue_totals(None, ()) is None
    assert queue_totals((), ()) is None
    known = queue_totals((view("a"), view("b", admission_s=0.2), view("c", admission_s=0.4)), ())
    assert known is not None
    assert known.decode_admission_s is not None
    assert abs(known.decode_admission_s - 0.3) < 1e-9
    assert known.num_routers == 3
