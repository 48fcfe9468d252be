"""Goal: a level follows a tide, levels bursts out, and knows how far chance may carry it. Method: series by hand."""

import random

import pytest

from services.planner.level import BLOCK_S, LEVEL_S, Level, Present


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


def test_few_bursts_do_not_know_their_mean_and_many_do() -> None:
    """One burst of a minute in three: after three minutes, and after an hour of them."""
    burst = [*[6.0] * 6, *[0.0] * 12]
    once, often = walked(burst), walked(burst * 20)
    assert once.error > 0.5
    assert 0.05 < often.error < once.error / 3


def test_an_even_load_is_known_at_once_whenever_it_is_looked_at() -> None:
    """A planner that starts anew beside a full fleet must not ask for a larger one."""
    assert all(walked([3.0] * looks).error == 0.0 for looks in range(60))


def test_a_steady_load_is_no_tide_however_young_the_level() -> None:
    for looks in range(151, 2000, 37):
        present = walked([3.0] * looks, 2.0).present(60.0)
        assert present.least == present.most == pytest.approx(3.0, rel=0.01), f"after {looks}"


def test_a_rising_tide_is_met_where_it_will_be() -> None:
    """From 4 to 10 in an hour: 0.1 a minute, so that is how far a minute's lead is ahead. A falling one is not led."""
    rising = [4.0] * 400 + [4.0 + 6.0 * step / 360 for step in range(360)]
    level = walked(rising)
    assert level.present(60.0).least - level.present(0.0).least == pytest.approx(0.1, rel=0.15)
    falling = walked(rising[::-1])
    assert falling.present(60.0) == falling.present(0.0)


def test_work_counts_as_it_would_come_now_and_as_it_came_within_the_doubt() -> None:
    present = Present(least=2.0, most=4.0)
    scales = [present.scale(then, was_young=False) for then in (0.0, 1.6, 2.0, 3.0, 4.0, 8.0)]
    assert scales == [1.0, 1.25, 1.0, 1.0, 1.0, 0.5]
    assert present.scale(1.6, was_young=True) == 1.0


def test_no_level_is_negative() -> None:
    level = walked([100.0] * 60 + [0.0] * 600)
    assert level.now >= level.least >= 0.0
