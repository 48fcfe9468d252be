"""Goal: a level follows a tide, levels bursts out, and knows how far chance may carry it. Method: series by hand."""

import random

import pytest

from services.planner.level import BLOCK_S, LEVEL_S, Level


def walked(values: list[float], seconds: float = 10.0) -> Level:
    level = Level()
    for value in values:
        level = level.after(value, seconds)
    return level


def test_a_steady_load_is_its_own_level_and_leaves_no_doubt() -> None:
    level = walked([3.0] * 500)
    assert level.least == pytest.approx(level.now) == pytest.approx(level.most) == pytest.approx(3.0)


def test_what_comes_first_is_no_height_to_fall_from() -> None:
    """Whatever began with a burst would else seem to ebb from then on."""
    first, later = walked([8.0] * 3), walked([8.0] * 3 + [1.0] * 100)
    assert first.now < 2.0
    assert later.now == pytest.approx(1.0, rel=0.1)


def test_no_rise_is_believed_before_the_level_had_its_time() -> None:
    blocks = int(LEVEL_S / BLOCK_S)
    assert walked([3.0] * (blocks - 1), BLOCK_S).least == 0.0
    assert walked([3.0] * blocks, BLOCK_S).least > 1.0


def test_a_falling_tide_is_not_trailed() -> None:
    """An hour down from 10 to 4: a plain mean of LEVEL_S would be that much of the slope behind."""
    tide = [10.0] * 400 + [10.0 - 6.0 * step / 360 for step in range(360)]
    level = walked(tide)
    trail = 6.0 / 3600 * LEVEL_S
    assert abs(level.now - 4.0) < 0.1
    assert level.smooth - 4.0 > 0.9 * trail
    assert level.most - level.now < 0.2


@pytest.mark.parametrize("seed", range(5))
def test_bursts_are_doubted_and_a_tide_is_not(seed: int) -> None:
    """Bursts of thirty seconds, five minutes apart in the mean: their own mean is nearly always within what may be."""
    rng = random.Random(seed)
    level, within = Level(), 0
    values = [value for _ in range(800) for value in [10.0 if rng.random() < 0.1 else 0.0] * 3]
    for index, value in enumerate(values):
        level = level.after(value, 10.0)
        within += index >= 400 and level.least <= 1.0 <= level.most
    assert within > 0.85 * (len(values) - 400), f"seed {seed}"


def test_no_level_is_negative() -> None:
    level = walked([100.0] * 60 + [0.0] * 600)
    assert level.now >= level.least >= 0.0
