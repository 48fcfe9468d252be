"""Goal: only time that answers leave, and that decode workers were seen to use, is counted on."""

import pytest

from common.core.cost.model import CostModel
from services.planner.lending import Answers, Uptake, answers_of
from services.planner.load import Crew, Writing

COST = CostModel(
    step_s=0.01,
    extend_token_s=1e-3,
    extend_pair_s=0.0,
    decode_row_s=0.001,
    decode_context_s=1e-6,
    transfer_s=0.0,
    transfer_byte_s=0.0,
    num_steps=1000,
)


def writing(running: int, context_tokens: int = 0) -> Writing:
    return Writing(crew=Crew(ready=2), sequences=running, running=running, queued=0, context_tokens=context_tokens)


def test_idle_workers_have_all_their_time_to_spare() -> None:
    assert answers_of(writing(0), COST, 0.05).spare(3) == 3.0


def test_answers_take_their_part_of_each_step() -> None:
    """Of 50 ms a step, 10 are fixed; twenty rows take 20 ms of one worker, and their context 5."""
    answers = answers_of(writing(20, context_tokens=5000), COST, 0.05)
    assert answers.spare(1) == pytest.approx(0.8 - 0.5)
    assert answers.spare(2) == pytest.approx(1.6 - 0.5)
    assert answers.spare(1, scale=0.5) == pytest.approx(0.8 - 0.25)


def test_a_full_worker_has_nothing_to_spare_and_never_less() -> None:
    assert answers_of(writing(500), COST, 0.05).spare(1) == 0.0
    assert Answers(fixed=1.0, taken=0.0).spare(4) == 0.0


def test_uptake_is_believed_at_once_and_then_slowly_changed() -> None:
    first = Uptake().watched(0.9, 1.0, 2.0)
    assert first.share == pytest.approx(0.9)
    for _ in range(5):
        first = first.watched(0.9, 1.0, 2.0)
    later = first.watched(0.0, 1.0, 2.0)
    assert 0.7 < later.share < 0.9


def test_where_nothing_is_spare_nothing_is_learnt() -> None:
    known = Uptake(share=0.5, seen_s=10.0)
    assert known.watched(0.0, 0.05, 2.0) == known


def test_no_more_is_counted_on_than_there_is() -> None:
    assert Uptake().watched(5.0, 1.0, 2.0).share == 1.0
