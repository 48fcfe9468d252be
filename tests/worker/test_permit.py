"""Whoever revokes a permit knows whether somebody still writes under it, and nobody begins afterwards."""

import random
import threading

import pytest

from common.core.ids import Generation, PageId, PageRef, ReservationId
from common.transfer.messages import PageRun
from common.worker.permit import Permit, PermitState


def make_permit(num_pages: int = 4, first_page: int = 2) -> Permit:
    pages = [PageRef(PageId(10 + index), Generation(1)) for index in range(num_pages)]
    return Permit(reservation=ReservationId("res"), attempt=1, first_page=first_page, pages=pages)


def test_a_free_permit_ends_at_once() -> None:
    permit = make_permit()
    assert permit.enter()
    assert permit.leave()
    assert permit.revoke()
    assert permit.state is PermitState.OVER
    assert not permit.enter()


def test_a_busy_permit_ends_when_its_writer_leaves_who_is_told() -> None:
    permit = make_permit()
    assert permit.enter()
    assert not permit.revoke()
    assert permit.state is PermitState.ENDING
    assert not permit.leave()
    assert not permit.enter()


def test_a_run_names_the_pages_that_were_promised_for_it_and_no_others() -> None:
    permit = make_permit()
    assert permit.pages_of(PageRun(first_page=3, num_pages=2)) == [11, 12]
    for run in (PageRun(first_page=1, num_pages=1), PageRun(first_page=5, num_pages=2)):
        with pytest.raises(AssertionError):
            permit.pages_of(run)


@pytest.mark.parametrize("seed", range(5))
def test_between_threads_the_end_is_told_exactly_once(seed: int) -> None:
    """One thread enters and leaves, another revokes at some moment: nobody is inside once the end was told."""
    print(f"seed {seed}")
    draw = random.Random(seed)
    for _ in range(200):
        permit, told = make_permit(), list[str]()

        def write(permit: Permit = permit, told: list[str] = told) -> None:
            while permit.enter():
                if not permit.leave():
                    told.append("writer")

        writer = threading.Thread(target=write)
        writer.start()
        for _ in range(draw.randrange(50)):
            permit.state  # noqa: B018  # lets some time pass
        if permit.revoke():
            told.append("revoker")
        writer.join(10.0)
        assert len(told) == 1
        assert permit.state is PermitState.OVER
