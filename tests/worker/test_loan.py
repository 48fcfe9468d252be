"""Whoever revokes a loan knows whether somebody still copies under it, and nobody begins afterwards."""

import pytest

from common.core.ids import Generation, PageId, PageRef
from common.transfer.messages import PageRun
from common.worker.loan import Loan


def make_loan(num_pages: int = 4) -> Loan:
    return Loan([PageRef(PageId(10 + index), Generation(1)) for index in range(num_pages)])


def test_an_idle_loan_ends_at_once() -> None:
    loan = make_loan()
    assert loan.enter()
    assert loan.leave()
    assert loan.revoke()
    assert not loan.enter()
    with pytest.raises(AssertionError):
        loan.leave()


def test_a_loan_that_is_copied_ends_when_the_last_leaves_who_is_told() -> None:
    loan = make_loan()
    assert loan.enter()
    assert loan.enter()
    assert not loan.revoke()
    assert not loan.enter(), "others still copy, and nobody may begin"
    assert loan.leave()
    assert not loan.leave()
    assert not loan.enter()


def test_a_run_names_the_pages_that_were_kept_for_it_and_no_others() -> None:
    loan = make_loan()
    assert loan.pages_of(PageRun(first_page=1, num_pages=2)) == [11, 12]
    with pytest.raises(AssertionError):
        loan.pages_of(PageRun(first_page=3, num_pages=2))
