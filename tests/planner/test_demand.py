"""Goal: work is counted once, when it comes, in the units of the fleet that does it. Method: loads by hand."""

from dataclasses import replace

import pytest

from common.config.loader import load as load_config
from services.planner.decide import Recommendation, Why
from services.planner.demand import token_seconds
from services.planner.load import Crew, Load
from services.planner.settings import Bounds, PlannerSettings
from tests.planner.loads import COST, SETTINGS, load, walk, wanted

MAY_BE_NONE = replace(SETTINGS, prefill=Bounds(least=0, most=8), decode=Bounds(least=0, most=8), ttft_s=20.0)


def arrived(found: list[Recommendation]) -> float:
    """Seconds of reading that were counted, in all."""
    return sum(slot.reading_s for slot in found[-1].state.slots)


def stuck(backlog_s: float) -> Load:
    return load(backlog_s=backlog_s, read_s=1.0)


def test_a_backlog_that_a_planner_finds_at_its_start_has_come() -> None:
    """Thirty seconds of reading wait when it begins, and are read while it looks on: what is late by then is needed."""
    found = list(walk(stuck(30.0 - second) for second in range(20)))
    assert arrived(found) == pytest.approx(30.0, rel=0.1)
    assert wanted(found)[1][0] > 1


def test_a_queue_that_is_read_in_time_is_none_to_a_planner_that_starts() -> None:
    """A steady fleet has always some prompts under way: they ask for nobody when the planner is replaced."""
    crew = Crew(ready=3)
    found = wanted(walk([load(backlog_s=5.0, read_s=2.4, prefill=crew)] * 100))
    assert {prefill for prefill, _ in found} == {3}


def test_what_came_while_nobody_could_look_counts_afterwards_and_what_was_counted_does_not_count_again() -> None:
    seen = [load(backlog_s=10.0)] * 3
    gap: list[Load | None] = [None] * 20
    before = arrived(list(walk([load(), *seen])))
    risen = arrived(list(walk([load(), *seen, *gap, *[load(backlog_s=40.0)] * 3])))
    same = arrived(list(walk([load(), *seen, *gap, *seen])))
    assert (before, same, risen) == (10.0, 10.0, 40.0)


@pytest.mark.parametrize("wait", ["places", "pages"])
def test_who_comes_when_all_have_gone_is_counted_in_places_and_pages_as_they_were(wait: str) -> None:
    """A pair gone to none; then sixteen wait, where a worker has room for four: four, and not one, and one to spare."""
    room = {"places_each": 4} if wait == "places" else {"pages_each": 40}
    busy = load(sequences=2, read_s=0.1, pages_used=20, **room)
    gone = load(prefill=Crew(), decode=Crew())
    woken = load(sequences=16, queued=16, prefill=Crew(), decode=Crew())
    found = list(walk([busy] * 5 + [load(**room)] * 70 + [gone] * 5 + [woken], MAY_BE_NONE))
    assert wanted(found)[-2] == (0, 0)
    assert found[-1].decode is not None
    assert (found[-1].decode.why, found[-1].decode.desired) == (Why.WOKEN, 5)


def test_a_worker_is_as_fast_as_the_fleets_chunks_let_it_be() -> None:
    """200 tokens in chunks of 64 are four steps of 50 ms; four prompts share each, where a step has room for them."""
    cost = replace(COST, step_s=0.05)
    alone = PlannerSettings(step_tokens=64, chunk_tokens=64)
    shared = PlannerSettings(step_tokens=256, chunk_tokens=64)
    whole = PlannerSettings(step_tokens=2048, chunk_tokens=2048)
    assert token_seconds(cost, 200.0, alone) * 200 == pytest.approx(0.2 + 4 * 0.05)
    assert token_seconds(cost, 200.0, shared) * 200 == pytest.approx(0.2 + 0.05)
    assert token_seconds(cost, 200.0, whole) * 200 == pytest.approx(0.2 + 0.05)


def test_chunks_and_steps_are_the_configured_ones() -> None:
    config = load_config(settings=("engine.chunk_tokens=128", "engine.max_batch_tokens=1024"))
    settings = PlannerSettings.of(config)
    assert (settings.chunk_tokens, settings.step_tokens, settings.prompts_together) == (128, 1024, 8)


def test_small_chunks_ask_for_more_workers() -> None:
    """The same tokens per second, read in steps whose fixed cost is a third of them."""
    cost = replace(COST, step_s=0.05)
    small, large = (
        wanted(walk([load(read_s=1.5, cost=cost)] * 60, replace(SETTINGS, step_tokens=tokens, chunk_tokens=tokens)))
        for tokens in (64, 2048)
    )
    assert small[-1][0] > large[-1][0]
