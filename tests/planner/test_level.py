"""Goal: a level follows a tide and levels bursts out. Method: series by hand."""

import pytest

from services.planner.level import LEVEL_S, Level


def walked(values: list[float], seconds: float = 10.0) -> Level:
    level = Level()
    for value in values:
        level = level.after(value, seconds)
    return level


def test_a_steady_load_is_its_own_level_from_the_first_look() -> None:
    assert walked([3.0]).now == pytest.approx(3.0)
    assert walked([3.0] * 500).now == pytest.approx(3.0)


def test_a_falling_tide_is_not_trailed() -> None:
    """An hour down from 10 to 4: a plain mean of LEVEL_S would be that much of the slope behind."""
    tide = [10.0] * 400 + [10.0 - 6.0 * step / 360 for step in range(360)]
    level = walked(tide)
    trail = 6.0 / 3600 * LEVEL_S
    assert abs(level.now - 4.0) < 0.1
    assert level.smooth - 4.0 > 0.9 * trail


def test_bursts_are_levelled_out() -> None:
    """A burst of thirty seconds every five minutes; the level stays within a factor of two and a half."""
    level = Level()
    seen = []
    for step in range(600):
        level = level.after(10.0 if step % 30 < 3 else 0.0, 10.0)
        seen.append(level.now)
    assert all(0.4 < each < 1.8 for each in seen[-60:])


def test_no_level_is_negative() -> None:
    assert walked([100.0] * 60 + [0.0] * 600).now >= 0.0
