"""Goal: predictions that make sense at their borders. Method: numbers small enough to check by hand."""

from dataclasses import replace

import pytest

from common.core.cost.model import DEFAULT, MAX_BATCH, CostModel
from common.core.cost.work import StepWork
from common.core.ids import PageId, RequestId, SequenceId, TokenId
from common.core.step import Step, StepRow

UNIT = CostModel(
    step_s=1.0,
    extend_token_s=0.1,
    extend_pair_s=0.001,
    decode_row_s=0.01,
    decode_context_s=0.0001,
    transfer_s=0.5,
    transfer_byte_s=0.25,
)


def row(start: int, num_tokens: int) -> StepRow:
    tokens = tuple(TokenId(token) for token in range(num_tokens))
    return StepRow(sequence=SequenceId(RequestId(f"r{start}"), 0), tokens=tokens, start=start, pages=(PageId(0),))


def test_the_work_of_a_step_tells_extends_from_decodes() -> None:
    work = StepWork.of(Step(rows=(row(10, 4), row(99, 1), row(0, 1))))
    assert work == StepWork(extend_tokens=4, extend_pairs=4 * 10 + 10, decode_rows=2, decode_context=101)


def test_a_prefill_pays_for_its_steps_its_tokens_and_its_pairs() -> None:
    assert UNIT.prefill_seconds(4, 10, chunk_tokens=2) == pytest.approx(2 * 1.0 + 4 * 0.1 + 50 * 0.001)
    assert UNIT.prefill_seconds(0, 10) == 0.0
    assert UNIT.prefill_seconds(4, 10, chunk_tokens=4, num_prompts=3) > UNIT.prefill_seconds(4, 10, chunk_tokens=4)


def test_a_cached_prefix_is_cheaper_than_reading_it_and_dearer_than_nothing() -> None:
    assert UNIT.prefill_seconds(10, 0) < UNIT.prefill_seconds(10, 90) < UNIT.prefill_seconds(100, 0)


def test_a_local_extend_on_an_idle_worker_takes_large_chunks() -> None:
    idle = UNIT.local_extend(100, batch=0, context_tokens=0, itl_s=2.0, chunk_tokens=10, idle_chunk_tokens=100)
    assert idle.seconds == pytest.approx(UNIT.prefill_seconds(100, chunk_tokens=100))


def test_a_local_extend_among_answers_keeps_the_gap_and_delays_every_neighbour() -> None:
    busy = UNIT.local_extend(100, batch=10, context_tokens=1000, itl_s=2.2, chunk_tokens=64, idle_chunk_tokens=100)
    assert busy.step_s < 2.2 + 0.51  # attention is not in the budget that workers grant
    assert busy.added_s == pytest.approx(UNIT.extend_seconds(100))
    assert busy.seconds > UNIT.prefill_seconds(100, chunk_tokens=100)


def test_a_worker_that_is_late_already_grants_prompts_as_much_as_its_answers_take() -> None:
    assert UNIT.chunk_tokens(itl_s=1.0, decode_step_s=5.0, most=64) == 50
    assert UNIT.chunk_tokens(itl_s=1.0, decode_step_s=0.5, most=64) == 8, "five fit; eight are granted"
    assert UNIT.chunk_tokens(itl_s=2.0, decode_step_s=1.0, most=64) == 10
    assert UNIT.chunk_tokens(itl_s=1000.0, decode_step_s=5.0, most=64) == 64


def test_the_batch_cap_follows_from_the_gap_between_tokens() -> None:
    assert UNIT.max_batch(1.1, 0) == 10
    assert UNIT.max_batch(0.5, 0) == 1
    step_s = UNIT.decode_step_seconds(UNIT.max_batch(3.0, 100), 100 * UNIT.max_batch(3.0, 100))
    assert 2.9 < step_s <= 3.0


def test_costs_of_next_to_nothing_limit_nothing() -> None:
    """Divided by, they give more than a float holds."""
    nothing = replace(UNIT, extend_token_s=5e-324, decode_row_s=5e-324, decode_context_s=0.0, step_s=0.0)
    assert nothing.max_batch(1.0, 0) == MAX_BATCH
    assert nothing.chunk_tokens(itl_s=1.0, decode_step_s=0.0, most=64) == 64


def test_an_empty_transfer_still_costs_the_hand_over() -> None:
    assert UNIT.transfer_seconds(0) == 0.5
    assert UNIT.transfer_seconds(4) == 1.5


def test_the_default_says_that_it_is_one() -> None:
    assert DEFAULT.is_default
