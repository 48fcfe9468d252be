"""Goal: what a standing says of our work there is the sum over that work, whatever happens to it. Method: the same
sums, added up."""

import random
from dataclasses import replace

import pytest

from common.core.worker import Role
from services.router.standing import Assignment, Standing
from tests.router.build import load, member


@pytest.mark.parametrize("seed", range(5))
def test_sums_are_those_of_the_assignments(seed: int) -> None:
    chance = random.Random(seed)
    standing = Standing(member=member("p0", Role.PREFILL), first_seen=0.0, heard_at=0.0, load=load())
    given: list[Assignment] = []
    for step in range(300):
        match chance.randrange(4):
            case 0 | 1:
                given.append(standing.assign(chance.choice((0, 0, 70, 900)), 4, chance.randrange(1, 4), float(step)))
            case 2 if given:
                standing.read(chance.choice(given))
            case _ if given:
                standing.release(chance.choice(given), float(step))  # some of them twice
        view = standing.view(float(step))
        assert view.in_flight == sum(each.sequences for each in standing.assignments)
        assert view.pending_tokens == sum(each.tokens for each in standing.assignments)
        assert view.pending_prompts == sum(each.tokens > 0 for each in standing.assignments)
        assert view.unheard_tokens == view.pending_tokens, "nothing was reported yet"
    for each in given:
        standing.release(each, 300.0)
    assert (standing.in_flight, standing.pending_tokens, standing.pending_prompts) == (0, 0, 0)


def test_a_report_holds_what_the_worker_had_taken_before_and_nothing_else() -> None:
    """p0 was sent two prompts, and took one: its report says what is left of that."""
    standing = Standing(member=member("p0", Role.PREFILL), first_seen=0.0, heard_at=0.0, load=load())
    taken, sent = standing.assign(900, 4, 1, 0.0), standing.assign(70, 4, 1, 0.0)
    standing.land(taken)
    standing.note_report(replace(load(), waiting_tokens=500, unread_prompts=1), 1.0)
    view = standing.view(1.0)
    assert (view.backlog_tokens, view.backlog_prompts) == (570, 2)
    standing.land(sent)
    standing.release(sent, 1.5)
    view = standing.view(1.5)
    assert (view.backlog_tokens, view.backlog_prompts) == (500, 1)


def test_of_a_worker_that_does_not_tell_whole_prompts_count_until_they_are_read() -> None:
    standing = Standing(member=member("p0", Role.PREFILL), first_seen=0.0, heard_at=0.0, load=load())
    taken = standing.assign(900, 4, 1, 0.0)
    standing.land(taken)
    standing.note_report(replace(load(), waiting_tokens=500), 1.0)
    assert (standing.view(1.0).backlog_tokens, standing.view(1.0).backlog_prompts) == (900, 1)
    standing.read(taken)
    assert (standing.view(1.0).backlog_tokens, standing.view(1.0).backlog_prompts) == (500, 0)
