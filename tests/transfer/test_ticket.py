"""Tickets: signed, leased, spent once, told apart from forgeries without saying how."""

from dataclasses import replace
from typing import Any

import pytest

from common.core.clock import ManualClock
from common.core.entropy import SeededEntropy
from common.core.errors import Fenced, Reason
from common.core.ids import Epoch, RequestId, ReservationId, TransferId, WorkerId, WorkerRef
from common.transfer.ticket import TicketOffice

ME = WorkerRef(worker=WorkerId("p"), epoch=Epoch(5), address="p:1")
TRANSFER = TransferId(ReservationId("res-1"), 1)


def office(seed: int = 1) -> tuple[TicketOffice, ManualClock]:
    clock = ManualClock()
    return TicketOffice(ME, clock=clock, entropy=SeededEntropy(seed)), clock


def test_a_withdrawn_ticket_is_not_valid_and_does_not_expire_later() -> None:
    tickets, clock = office()
    ticket = tickets.mint(RequestId("req-1"), num_pages=3, lease_s=5.0)
    other = tickets.mint(RequestId("req-2"), num_pages=3, lease_s=5.0)
    tickets.withdraw(RequestId("req-1"))
    with pytest.raises(Fenced):
        tickets.redeem(ticket, TRANSFER)
    tickets.redeem(other, TRANSFER)
    clock.advance(6.0)
    assert tickets.expire() == ()


def test_a_ticket_is_good_for_one_transfer_however_often_it_is_shown() -> None:
    tickets, _ = office()
    ticket = tickets.mint(RequestId("req-1"), num_pages=3, lease_s=5.0)
    tickets.redeem(ticket, TRANSFER)
    tickets.redeem(ticket, TRANSFER)
    with pytest.raises(Fenced) as caught:
        tickets.redeem(ticket, TransferId(ReservationId("res-2"), 1))
    assert caught.value.reason is Reason.TICKET_INVALID


@pytest.mark.parametrize(
    "change",
    [
        {"num_pages": 4},
        {"request": RequestId("req-2")},
        {"lease_s": 50.0},
        {"nonce": bytes(16)},
        {"signature": bytes(32)},
        {"signature": b""},
        {"holder": replace(ME, epoch=Epoch(6))},
        {"holder": replace(ME, address="q:1")},
    ],
)
def test_a_ticket_with_any_field_changed_is_refused(change: dict[str, Any]) -> None:
    tickets, _ = office()
    ticket = tickets.mint(RequestId("req-1"), num_pages=3, lease_s=5.0)
    with pytest.raises(Fenced):
        tickets.redeem(replace(ticket, **change), TRANSFER)
    tickets.redeem(ticket, TRANSFER)


def test_a_ticket_of_another_secret_is_refused() -> None:
    tickets, _ = office()
    other, _ = office(seed=2)
    with pytest.raises(Fenced):
        tickets.redeem(other.mint(RequestId("req-1"), num_pages=3, lease_s=5.0), TRANSFER)


def test_a_lease_that_ended_is_over_and_its_pages_are_named_once() -> None:
    tickets, clock = office()
    fetched = tickets.mint(RequestId("req-1"), num_pages=3, lease_s=5.0)
    tickets.redeem(fetched, TRANSFER)
    left = tickets.mint(RequestId("req-2"), num_pages=3, lease_s=5.0)
    clock.advance(5.001)
    with pytest.raises(Fenced):
        tickets.redeem(left, TRANSFER)
    assert tickets.expire() == (RequestId("req-2"),)
    assert tickets.expire() == ()
    assert len(tickets) == 0
