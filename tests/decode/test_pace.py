"""A slice leaves a step most of its time, is never nothing, and lets no page wait for ever."""

import random

import pytest

from services.decode.pace import MAX_STEPS, RECENT, SHARE, Recent, plan_slice

PAGE_S = 20e-6


def test_a_slice_takes_its_share_of_the_step_and_no_more() -> None:
    assert plan_slice(waiting_pages=1000, page_s=PAGE_S, step_s=0.010, ceiling_pages=1000) == int(
        SHARE * 0.010 / PAGE_S
    )


def test_the_ceiling_rules_where_a_long_step_would_leave_more() -> None:
    assert plan_slice(waiting_pages=1000, page_s=PAGE_S, step_s=1.0, ceiling_pages=40) == 40


def test_nobody_is_held_up_while_nothing_runs() -> None:
    assert plan_slice(waiting_pages=1, page_s=1.0, step_s=None, ceiling_pages=40) == 40


def test_a_copy_that_takes_no_time_leaves_the_ceiling() -> None:
    """Virtual time."""
    assert plan_slice(waiting_pages=5, page_s=0.0, step_s=0.0, ceiling_pages=40) == 40


@pytest.mark.parametrize("waiting", [1, MAX_STEPS, 10 * MAX_STEPS])
def test_whatever_waits_has_landed_after_a_bounded_number_of_steps(waiting: int) -> None:
    """Copies as slow as steps, so that not one page fits."""
    left, steps = waiting, 0
    while left:
        slice_pages = plan_slice(waiting_pages=left, page_s=1.0, step_s=0.001, ceiling_pages=waiting)
        assert slice_pages >= 1
        left -= min(left, slice_pages)
        steps += 1
    assert steps <= MAX_STEPS * (1 + waiting // MAX_STEPS).bit_length()


@pytest.mark.parametrize("seed", range(20))
def test_a_slice_exceeds_its_share_only_for_the_floor(seed: int) -> None:
    print(f"seed {seed}")
    draw = random.Random(seed)
    waiting, ceiling = draw.randint(1, 5000), draw.randint(1, 500)
    page_s, step_s = 10 ** draw.uniform(-6, -2), 10 ** draw.uniform(-4, 0)
    pages = plan_slice(waiting_pages=waiting, page_s=page_s, step_s=step_s, ceiling_pages=ceiling)
    floor = max(1, -(-waiting // MAX_STEPS))
    assert 1 <= pages <= ceiling
    assert pages <= floor or pages * page_s <= SHARE * step_s


def test_the_median_forgets_what_is_old_and_forgives_what_is_rare() -> None:
    assert Recent().median is None
    recent = Recent()
    for value in (5.0, 1.0, 900.0):
        recent.add(value)
    assert recent.median == 5.0
    for _ in range(RECENT):
        recent.add(2.0)
    assert recent.median == 2.0
