"""Goal: what a hand-over costs is counted by name: the stall, and the prompts that are still read where it goes.
Method: as in test_policy_costs, small fleets whose timings are known."""

from collections.abc import Mapping

import pytest

from common.core.worker import Role
from services.router.policy import Decision, PolicySettings, Routes
from services.router.view import WorkerView
from tests.router.test_policy_costs import decide, facts, view

REMOTE = PolicySettings(routes=Routes.REMOTE)


def handed(*workers: WorkerView, context: int = 2000) -> Decision:
    return decide(facts(context), *workers, settings=REMOTE)


def terms(decision: Decision, route: str) -> Mapping[str, float]:
    return next(each.terms for each in decision.candidates if str(each.route) == route)


def test_an_answer_is_not_written_beside_a_long_prompt() -> None:
    """The reading one has a quarter of the answers: it would be taken if only they counted."""
    few, many, p0 = view("d0", Role.DECODE, running=2), view("d1", Role.DECODE, running=8), view("p0", Role.PREFILL)
    reading = view("d0", Role.DECODE, running=2, pending_tokens=60_000, pending_prompts=1)
    assert str(handed(few, many, p0).route) == "p0>d0"
    assert str(handed(reading, many, p0).route) == "p0>d1"
    assert terms(handed(reading, many, p0), "p0>d0")["beside"] > 1.0
    assert terms(handed(few, many, p0), "p0>d0")["beside"] == 0.0


def test_prompts_that_are_read_before_the_answer_begins_do_not_speak_against_its_writer() -> None:
    reading = view("d0", Role.DECODE, running=2, pending_tokens=4000, pending_prompts=1)
    p0 = view("p0", Role.PREFILL)
    assert terms(handed(reading, p0, context=500), "p0>d0")["beside"] > 0.0
    assert terms(handed(reading, p0, context=9000), "p0>d0")["beside"] == 0.0


def test_more_prompts_that_wait_there_are_held_up_more() -> None:
    def beside(num_prompts: int) -> float:
        reading = view("d0", Role.DECODE, running=2, pending_tokens=60_000, pending_prompts=num_prompts)
        return terms(handed(reading, view("p0", Role.PREFILL)), "p0>d0")["beside"]

    assert beside(10) > 2 * beside(1)


@pytest.mark.parametrize(("is_dual", "share"), [(True, 0.25), (False, 1.0)])
def test_the_fuller_the_readers_the_less_a_stall_counts_where_the_writer_could_read(
    is_dual: bool, share: float
) -> None:
    """Half of the readers' time is taken, at 0.2 ms a token over 30 s."""

    def hand_over(recent_tokens: float) -> float:
        at_writer = recent_tokens if is_dual else 0.0
        writer = view("d0", Role.DECODE, is_dual=is_dual, recent_tokens=at_writer, recent_at=0.0)
        reader = view("p0", Role.PREFILL, recent_tokens=recent_tokens, recent_at=0.0)
        return terms(handed(writer, reader), "p0>d0")["hand_over"]

    assert hand_over(75_000.0) == pytest.approx(share * hand_over(0.0))
