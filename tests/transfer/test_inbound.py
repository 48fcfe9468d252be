"""The receiver's table alone, on a manual clock: what is taken, what is lent, and how each attempt ends."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from common.core.clock import ManualClock
from common.core.errors import Fenced, InvalidRequest, NotFound, Reason, Refused, TransferFailed
from common.core.ids import Epoch, RequestId, ReservationId, TransferId, WorkerId, WorkerRef
from common.kv.digest import DigestKey
from common.kv.seal import Seal
from common.kv.staging import StagingPool
from common.transfer.counters import TransferCounters
from common.transfer.expectation import Arrival, Expectation
from common.transfer.inbound import InboundTransfers
from common.transfer.limits import TransferLimits
from common.transfer.messages import Finale, FirstToken, Offer, Outcome, OutcomeState, PageRun, Pair, TransferRef
from tests.transfer.rig import PAGE, REQUEST, finale

pytestmark = pytest.mark.virtual_time

ME = WorkerRef(worker=WorkerId("d"), epoch=Epoch(9), address="d:1")
SENDER = WorkerRef(worker=WorkerId("p"), epoch=Epoch(5), address="p:1")
PAIR = Pair(sender=SENDER, receiver=ME, nonce=1, channel="loopback")
RES = ReservationId("res-1")
KEY = DigestKey(bytes(range(32)))


class Notes:
    """A sink that writes down what it hears."""

    def __init__(self, *, is_full: bool = False) -> None:
        self.is_full = is_full
        self.arrivals: list[Arrival] = []
        self.finales: list[Finale] = []
        self.failures: list[Outcome] = []

    def on_run(self, arrival: Arrival) -> None:
        if self.is_full:
            raise Refused(message="the mailbox is full", reason=Reason.LOAD_SHED)
        self.arrivals.append(arrival)

    def on_finale(self, transfer: TransferId, finale: Finale) -> None:
        self.finales.append(finale)

    def on_failed(self, transfer: TransferId, outcome: Outcome) -> None:
        self.failures.append(outcome)


class Table:
    """The object under test with its surroundings."""

    def __init__(self, limits: TransferLimits | None = None) -> None:
        self.clock = ManualClock()
        self.counters = TransferCounters()
        self.staging = StagingPool(4, 4 * PAGE)
        self.inbound = InboundTransfers(
            ME,
            max_run_bytes=self.staging.num_bytes,
            limits=limits or TransferLimits(),
            counters=self.counters,
            clock=self.clock,
        )

    def expect(
        self, attempt: int = 1, *, total: int = 4, held: int = 0, sink: Notes | None = None, verifies: bool = False
    ) -> Notes:
        sink = sink or Notes()
        self.inbound.expect(
            Expectation(
                transfer=TransferId(RES, attempt),
                request=REQUEST,
                total_pages=total,
                held_pages=held,
                page_bytes=PAGE,
                choices=(0, 1),
                verifies=verifies,
            ),
            sink,
        )
        return sink

    def receive(self, offer: Offer) -> bool:
        """Claim, begin, verify and hand over, as the reception does. False: not wanted any more."""
        transfer = self.inbound.claim(offer)
        self.inbound.begin(transfer, offer)
        staging = self.staging.acquire_nowait()
        assert staging is not None
        seal = Seal(key=KEY, first_index=0, digests=offer.digests) if transfer.expectation.verifies else None
        is_lent = self.inbound.hand_over(transfer, offer.run, staging, offer.num_bytes, seal)
        if not is_lent:
            staging.release()
        return is_lent


def ref(attempt: int = 1, **changes: Any) -> TransferRef:
    made = TransferRef(
        transfer=TransferId(RES, attempt), request=REQUEST, sender_epoch=SENDER.epoch, receiver_epoch=ME.epoch
    )
    return replace(made, **changes)


def offer(first: int, count: int, *, attempt: int = 1, end: Finale | None = None, **changes: Any) -> Offer:
    made = Offer(
        pair=PAIR,
        transfer=ref(attempt),
        frame=0,
        run=PageRun(first_page=first, num_pages=count),
        num_bytes=count * PAGE,
        digests=bytes(8 * max(count, 0)),
        finale=end,
    )
    return replace(made, **changes)


@contextmanager
def nothing_changes(table: Table) -> Iterator[None]:
    """A refused offer leaves no trace but its counter."""
    transfer = table.inbound._transfers[RES]
    before = (
        dict(transfer.claimed._layers),
        transfer.pair,
        transfer.state,
        table.counters.snapshot().started,
        table.staging.num_free,
    )
    yield
    after = (
        dict(transfer.claimed._layers),
        transfer.pair,
        transfer.state,
        table.counters.snapshot().started,
        table.staging.num_free,
    )
    assert before == after


def test_pages_landed_for_an_attempt_that_is_over_do_not_count_for_the_next() -> None:
    table = Table()
    first = table.expect(1)
    table.receive(offer(0, 2))
    second = table.expect(2)
    table.receive(offer(0, 2, attempt=2))
    table.receive(offer(2, 2, attempt=2, end=finale(4)))
    table.inbound.landed(first.arrivals[0])
    table.inbound.landed(second.arrivals[0])
    assert table.counters.snapshot().done == 0
    table.inbound.landed(second.arrivals[1])
    assert table.counters.snapshot().done == 1
    assert table.staging.num_free == 4


def test_a_run_verified_after_the_end_is_not_handed_over() -> None:
    table = Table()
    sink = table.expect()
    transfer = table.inbound.claim(offer(0, 2))
    table.inbound.begin(transfer, offer(0, 2))
    table.inbound.forget(RES)
    staging = table.staging.acquire_nowait()
    assert staging is not None
    assert not table.inbound.hand_over(transfer, PageRun(first_page=0, num_pages=2), staging, 2 * PAGE)
    staging.release()
    assert sink.arrivals == []
    assert table.counters.incidents["dropped_run"] == 1


def test_a_sink_that_cannot_take_a_run_fails_the_transfer_and_keeps_no_buffer() -> None:
    table = Table()
    sink = table.expect(sink=Notes(is_full=True))
    assert not table.receive(offer(0, 2))
    assert [failure.reason for failure in sink.failures] == [Reason.LOAD_SHED]
    assert table.inbound.num_lent == 0
    assert table.staging.num_free == 4


def test_a_dropped_arrival_of_the_current_attempt_fails_it_and_of_an_older_one_does_not() -> None:
    table = Table()
    old = table.expect(1)
    table.receive(offer(0, 2))
    new = table.expect(2)
    table.receive(offer(0, 2, attempt=2))
    table.inbound.dropped(old.arrivals[0])
    assert new.failures == []
    table.inbound.dropped(new.arrivals[0])
    assert [failure.reason for failure in new.failures] == [Reason.CANCELLED]


def test_an_arrival_comes_back_once() -> None:
    table = Table()
    sink = table.expect()
    table.receive(offer(0, 2))
    table.inbound.landed(sink.arrivals[0])
    with pytest.raises(AssertionError, match="twice"):
        table.inbound.dropped(sink.arrivals[0])


def test_the_finale_follows_the_last_verified_page() -> None:
    table = Table()
    sink = table.expect()
    table.receive(offer(0, 3))
    assert sink.finales == []
    table.receive(offer(3, 1, end=finale(4, 0, 1)))
    assert sink.finales == [finale(4, 0, 1)]


def test_a_sink_that_verifies_hears_the_finale_behind_the_last_landing() -> None:
    table = Table()
    sink = table.expect(verifies=True)
    table.receive(offer(0, 3))
    table.receive(offer(3, 1, end=finale(4, 0, 1)))
    assert [arrival.seal is not None for arrival in sink.arrivals] == [True, True]
    table.inbound.landed(sink.arrivals[1])
    assert sink.finales == []
    table.inbound.landed(sink.arrivals[0])
    assert sink.finales == [finale(4, 0, 1)]
    assert table.counters.snapshot().done == 1


def test_a_sink_that_verifies_hears_a_finale_that_comes_alone_at_once_when_all_has_landed() -> None:
    table = Table()
    sink = table.expect(verifies=True)
    table.receive(offer(0, 4))
    table.inbound.landed(sink.arrivals[0])
    last = offer(4, 0, end=finale(4))
    table.inbound.begin(table.inbound.claim(last), last)
    assert sink.finales == [finale(4)]
    assert table.counters.snapshot().done == 1


@pytest.mark.parametrize("landed_first", [False, True])
def test_a_run_that_does_not_fit_fails_its_transfer_and_no_finale_is_told(landed_first: bool) -> None:
    table = Table()
    sink = table.expect(verifies=True)
    table.receive(offer(0, 3))
    table.receive(offer(3, 1, end=finale(4)))
    if landed_first:
        table.inbound.landed(sink.arrivals[0])
    with capture_logs() as lines:
        table.inbound.corrupt(sink.arrivals[1])
    if not landed_first:
        table.inbound.landed(sink.arrivals[0])
    assert [failure.reason for failure in sink.failures] == [Reason.DIGEST_MISMATCH]
    assert sink.finales == []
    assert table.counters.incidents["digest_mismatch"] == 1
    told = {"event": "digest_mismatch", "pair": str(PAIR), "channel": "loopback", "request": REQUEST, "pages": "[3, 4)"}
    assert [told == {name: line.get(name) for name in told} for line in lines] == [True], lines
    assert table.inbound.num_lent == 0
    assert table.staging.num_free == 4


def test_a_run_of_an_older_attempt_that_does_not_fit_fails_no_newer_one() -> None:
    table = Table()
    old = table.expect(1, verifies=True)
    table.receive(offer(0, 4, end=finale(4)))
    new = table.expect(2, verifies=True)
    table.receive(offer(0, 4, attempt=2, end=finale(4)))
    table.inbound.corrupt(old.arrivals[0])
    assert new.failures == []
    table.inbound.landed(new.arrivals[0])
    assert new.finales == [finale(4)]


def test_neither_a_broken_pair_nor_a_late_abort_ends_what_is_here_and_not_verified_yet() -> None:
    table = Table()
    sink = table.expect(verifies=True)
    table.receive(offer(0, 4, end=finale(4)))
    table.inbound.fail_pair(PAIR, "test")
    table.inbound.abort(ref(), Reason.CANCELLED)
    assert sink.failures == []
    table.inbound.landed(sink.arrivals[0])
    assert sink.finales == [finale(4)]


def test_what_could_not_be_verified_fails_with_what_stood_in_the_way() -> None:
    table = Table()
    sink = table.expect(verifies=True)
    table.receive(offer(0, 4, end=finale(4)))
    table.inbound.dropped(sink.arrivals[0], TransferFailed(message="full", reason=Reason.MEMORY_PRESSURE))
    assert [failure.reason for failure in sink.failures] == [Reason.MEMORY_PRESSURE]


def test_an_older_attempt_cannot_be_expected_again_and_a_repetition_changes_nothing() -> None:
    table = Table()
    table.expect(2)
    table.receive(offer(0, 2, attempt=2))
    table.expect(2)
    assert table.counters.snapshot().in_flight == 1
    with pytest.raises(Fenced):
        table.expect(1)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (offer(0, 2, attempt=2), Fenced),
        (offer(0, 2, transfer=ref(receiver_epoch=Epoch(8))), Fenced),
        (offer(0, 2, transfer=ref(sender_epoch=Epoch(6))), Fenced),
        (offer(0, 2, transfer=ref(request=RequestId("req-2"))), Fenced),
        (offer(0, 2, pair=replace(PAIR, nonce=2)), Fenced),
        (offer(0, 2, transfer=ref(transfer=TransferId(ReservationId("res-9"), 1))), NotFound),
        (offer(3, 2), InvalidRequest),
        (offer(1, 1), InvalidRequest),
        (offer(2, 1), InvalidRequest),
        (offer(0, -1), InvalidRequest),
        (offer(0, 1, num_bytes=PAGE - 1), InvalidRequest),
        (offer(0, 1, num_bytes=2**63), InvalidRequest),
        (offer(3, 1, digests=bytes(7)), InvalidRequest),
        (offer(3, 1, digests=bytes(16)), InvalidRequest),
        (offer(3, 2**31), InvalidRequest),
        (offer(3, 0), InvalidRequest),
        (offer(3, 1, end=finale(5)), InvalidRequest),
        (offer(3, 0, end=finale(4)), InvalidRequest),
        (offer(3, 1, end=finale(4, 2)), InvalidRequest),
        (offer(3, 1, end=finale(4, 0, 0)), InvalidRequest),
    ],
)
def test_an_offer_that_does_not_add_up_is_refused_and_leaves_no_trace(bad: Offer, error: type[Exception]) -> None:
    """Pages [1, 4) are promised, page 2 has come."""
    table = Table()
    table.expect(total=4, held=1)
    table.receive(offer(1, 2))
    with nothing_changes(table), pytest.raises(error):
        table.inbound.claim(bad)


def test_a_run_that_no_staging_buffer_holds_is_refused() -> None:
    table = Table()
    table.expect(total=9)
    with nothing_changes(table), pytest.raises(InvalidRequest, match="staging buffer"):
        table.inbound.claim(offer(0, 5))


def test_nothing_more_is_taken_after_the_end() -> None:
    table = Table()
    table.expect()
    table.receive(offer(0, 2))
    table.inbound.fail_pair(PAIR, "test")
    with pytest.raises(TransferFailed) as caught:
        table.inbound.claim(offer(2, 2))
    assert caught.value.reason is Reason.TRANSFER_FAILED


def test_a_pair_that_breaks_spares_what_only_has_to_land() -> None:
    table = Table()
    sink = table.expect()
    table.receive(offer(0, 4, end=finale(4)))
    table.inbound.fail_pair(PAIR, "test")
    assert sink.failures == []
    table.inbound.landed(sink.arrivals[0])
    assert table.counters.snapshot().done == 1


def test_a_transfer_in_which_nothing_moves_expires_and_one_that_moves_does_not() -> None:
    table = Table(TransferLimits(idle_timeout_s=10))
    sink = table.expect()
    table.receive(offer(0, 1))
    for _ in range(3):
        table.clock.advance(9)
        table.inbound.expire()
        table.receive(offer(len(sink.arrivals), 1)) if len(sink.arrivals) < 3 else table.inbound.landed(
            sink.arrivals[0]
        )
    assert sink.failures == []
    table.clock.advance(10.1)
    table.inbound.expire()
    assert [failure.state for failure in sink.failures] == [OutcomeState.EXPIRED]
    for arrival in sink.arrivals[1:]:
        table.inbound.dropped(arrival)


def test_a_promise_nobody_has_begun_to_fill_does_not_expire_here() -> None:
    table = Table()
    sink = table.expect()
    table.clock.advance(1000)
    table.inbound.expire()
    assert sink.failures == []


def test_an_abort_ends_its_own_attempt_only() -> None:
    table = Table()
    table.expect(1)
    table.receive(offer(0, 1))
    sink = table.expect(2)
    table.receive(offer(0, 1, attempt=2))
    table.inbound.abort(ref(1), Reason.CANCELLED)
    table.inbound.abort(ref(2, sender_epoch=Epoch(6)), Reason.CANCELLED)
    assert sink.failures == []
    table.inbound.abort(ref(2), Reason.CANCELLED)
    assert [failure.reason for failure in sink.failures] == [Reason.CANCELLED]


async def test_outcomes_are_remembered_for_late_questions_and_bounded() -> None:
    table = Table(TransferLimits(max_outcomes=2))
    for attempt in (1, 2, 3):
        table.expect(attempt)
        table.receive(offer(0, 1, attempt=attempt))
    table.inbound.forget(RES)
    assert (await table.inbound.wait_outcome(ref(3), 0.0)).reason is Reason.CANCELLED
    assert (await table.inbound.wait_outcome(ref(2), 0.0)).state is OutcomeState.FAILED
    with pytest.raises(NotFound):
        await table.inbound.wait_outcome(ref(1), 0.0)
    with pytest.raises(Fenced):
        await table.inbound.wait_outcome(ref(3, receiver_epoch=Epoch(1)), 0.0)


async def test_a_question_waits_for_the_outcome() -> None:
    table = Table()
    sink = table.expect(total=1)
    assert (await table.inbound.wait_outcome(ref(), 0.0)).state is OutcomeState.PENDING
    asking = asyncio.ensure_future(table.inbound.wait_outcome(ref(), 5.0))
    await asyncio.sleep(0)
    table.receive(offer(0, 1, end=Finale(first_tokens=(FirstToken(choice=1, token=3),), total_pages=1)))  # type: ignore[arg-type]
    table.inbound.landed(sink.arrivals[0])
    assert (await asking).state is OutcomeState.DONE


def test_too_many_expectations_are_refused() -> None:
    table = Table(TransferLimits(max_transfers=0))
    with pytest.raises(Refused):
        table.expect()
