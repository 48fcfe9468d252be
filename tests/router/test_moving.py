"""Whether an answer leaves a worker that drains, and where it goes: both pure."""

import random
from dataclasses import replace

import pytest

from common.core.worker import Role
from services.router.baton import STAY_SHARE, is_over_in_time
from services.router.inbox import Draining
from services.router.policy import PolicySettings, can_take, choose_writer
from tests.router.questions import question

SETTINGS = PolicySettings()


def test_what_is_over_within_a_share_of_the_time_stays_and_one_token_more_moves() -> None:
    draining = Draining(left_s=20.0, step_s=0.02)
    most = round(STAY_SHARE * 20.0 / 0.02)
    assert is_over_in_time(draining, most)
    assert not is_over_in_time(draining, most + 1)


def test_as_long_as_steps_take_as_long_as_they_did_whoever_stays_ends_before_the_rest_is_over() -> None:
    left_s, num_tokens = 20.0, 250
    while num_tokens:
        assert is_over_in_time(Draining(left_s=left_s, step_s=0.02), num_tokens)
        left_s, num_tokens = left_s - 0.02, num_tokens - 1


@pytest.mark.parametrize("seed", range(50))
def test_the_other_writer_has_room_and_has_not_failed_the_request(seed: int) -> None:
    """Nobody is chosen only where nobody can take it."""
    facts, view = question(random.Random(seed))
    able = [
        each
        for each in view.workers
        if each.role is Role.DECODE and each.is_eligible and can_take(each, facts) and each.worker not in facts.avoid
    ]
    chosen = choose_writer(facts, view, SETTINGS)
    if chosen is not None:
        assert chosen in {each.worker for each in able}
        again = replace(facts, avoid=facts.avoid | {chosen})
        assert choose_writer(again, view, SETTINGS) != chosen
    assert choose_writer(facts, view, SETTINGS) == chosen, "the same inputs, the same answer"
