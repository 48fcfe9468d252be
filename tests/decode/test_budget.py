"""The extend budget keeps time between tokens, and never starves a local prompt."""

import pytest

from services.decode.budget import ExtendBudget


def budget() -> ExtendBudget:
    return ExtendBudget(itl_budget_s=0.050, ceiling=64, floor=8)


def test_the_ceiling_applies_before_anything_was_measured() -> None:
    assert budget().tokens(8) == 64


@pytest.mark.parametrize(
    ("num_decoding", "num_extended", "alone_s", "together_s", "tokens"),
    [
        pytest.param(8, 10, 0.030, 0.040, 20, id="expensive tokens shrink the share of local prompts"),
        pytest.param(8, 10, 0.080, 0.180, 8, id="a step that is already too slow still leaves the floor"),
        pytest.param(32, 8, 0.080, 0.096, 40, id="where answers alone spend the budget prompts double their time"),
    ],
)
def test_prompts_get_what_the_budget_leaves(
    num_decoding: int, num_extended: int, alone_s: float, together_s: float, tokens: int
) -> None:
    learning = budget()
    learning.observe(num_decoding=num_decoding, num_extended=0, seconds=alone_s)
    learning.observe(num_decoding=num_decoding, num_extended=num_extended, seconds=together_s)
    assert learning.tokens(num_decoding) == tokens


def test_answers_beyond_those_seen_alone_count_as_tokens() -> None:
    """One answer was seen alone; the others came while prompts were being read: their time is not the prompts'."""
    learning = budget()
    learning.observe(num_decoding=1, num_extended=0, seconds=0.010)
    learning.observe(num_decoding=21, num_extended=10, seconds=0.040)
    assert learning.tokens(21) == 20
    assert learning.tokens(1) == 40


def slow_step_s(num_decoding: int, num_extended: int) -> float:
    """A larger model on two cores: weights take 30 ms to read, a row or a token 2.5 ms to multiply."""
    return max(0.030, 0.0025 * (num_decoding + num_extended)) + 0.003


@pytest.mark.parametrize("num_seen", [1, 8])
def test_many_prompts_at_once_on_a_slow_worker_are_read_soon(num_seen: int) -> None:
    """Goal: 32 prompts of 64 tokens begin together where a step of all answers is longer than the budget. Method: the
    steps of such a model, prompts in order, until all are read: no step is longer than the budget and twice its
    answers alone by much, and all have begun in less than twice the time that reading takes by itself."""
    learning = budget()
    for _ in range(50):
        learning.observe(num_decoding=num_seen, num_extended=0, seconds=slow_step_s(num_seen, 0))
    left, spent = 31 * 64, slow_step_s(0, 64)
    learning.observe(num_decoding=0, num_extended=64, seconds=spent)
    while left > 0:
        num_decoding = 32 - -(-left // 64)
        num_extended = min(left, learning.tokens(num_decoding))
        seconds = slow_step_s(num_decoding, num_extended)
        assert seconds < 1.75 * max(0.050, 2 * slow_step_s(num_decoding, 0)), (num_decoding, num_extended)
        learning.observe(num_decoding=num_decoding, num_extended=num_extended, seconds=seconds)
        left, spent = left - num_extended, spent + seconds
    assert spent < 2 * 2048 * 0.0025, spent


def test_a_newcomers_first_step_is_half_as_long() -> None:
    """Beside answers of 10 ms, 40 tokens of a millisecond fit 50 ms, and 15 half of it."""
    learning = budget()
    learning.observe(num_decoding=8, num_extended=0, seconds=0.010)
    learning.observe(num_decoding=8, num_extended=10, seconds=0.020)
    assert (learning.tokens(8), learning.tokens(8, has_newcomer=True)) == (40, 15)
