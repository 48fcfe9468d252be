"""Goodput: tokens that were worth something under joint limits."""

from services.local.bench.limits import Limits
from services.local.bench.target import Heard, Piece

LIMITS = Limits(ttft_s=1.0, itl_s=0.05)


def heard(first: float, gap: float, count: int) -> Heard:
    """Sent at 0, first token at `first`, then one every `gap`."""
    told = Heard(sent_at=0.0, prompt_tokens=8)
    told.pieces = [Piece(at=first + index * gap, num_tokens=1) for index in range(count)]
    return told


def test_tokens_within_the_limit_count_and_late_ones_do_not():
    fast, slow = heard(0.0, 0.04, 101), heard(0.0, 0.06, 101)
    assert LIMITS.goodput([fast], [], 0.0, 10.0)["goodput_tok_s"] == 10.0
    assert LIMITS.goodput([slow], [], 0.0, 10.0)["goodput_tok_s"] == 0.0


def test_an_arrival_whose_first_token_is_late_adds_nothing():
    late = heard(1.5, 0.01, 100)
    figures = LIMITS.goodput([], [late], 0.0, 10.0)
    assert figures == {"goodput_tok_s": 0.0, "good_arrivals_share": 0.0}


def test_an_arrival_that_was_never_answered_is_not_good():
    assert LIMITS.goodput([], [Heard(sent_at=0.0, prompt_tokens=8)], 0.0, 1.0)["good_arrivals_share"] == 0.0


def test_one_slow_gap_does_not_spoil_an_arrival_whose_mean_keeps_the_limit():
    arrival = heard(0.5, 0.03, 32)
    arrival.pieces.append(Piece(at=arrival.pieces[-1].at + 0.08, num_tokens=1))
    assert LIMITS.goodput([], [arrival], 0.0, 10.0)["good_arrivals_share"] == 1.0
