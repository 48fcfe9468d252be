"""Goal: equal attainment is compared with what HPAs could do at best, and a mean knows its doubt. Method: by hand."""

import pytest

from tests.bench.planner_frontier import Interval, Point, frontier, hours_at
from tests.bench.planner_report import CHART, PLANNERS, describe, pairings
from tests.bench.planner_study import Line


def points(*pairs: tuple[float, float]) -> list[Point]:
    return [Point(hours=hours, met=met) for hours, met in pairs]


def line(contender: str, hours: float, met: float, *, seed: int = 0) -> Line:
    decider = "now" if contender.startswith("planner") else ""
    return Line(
        workload="w",
        seed=seed,
        contender=contender,
        decider=decider,
        worker_hours=hours,
        met_share=met,
        turns=1,
        num_requests=100,
    )


def test_what_costs_more_for_less_is_not_on_the_frontier() -> None:
    assert frontier(points((5, 0.9), (6, 0.85), (7, 0.95), (7, 0.9))) == tuple(points((5, 0.9), (7, 0.95)))


def test_a_mix_of_two_settings_beats_a_third_between_them() -> None:
    edge = frontier(points((4, 0.8), (6, 0.81), (8, 0.9), (6, 0.84)))
    assert edge == tuple(points((4, 0.8), (8, 0.9)))
    assert hours_at(points((4, 0.8), (6, 0.81), (8, 0.9)), 0.85) == pytest.approx(6.0)


def test_what_no_setting_reaches_has_no_hours_and_what_all_exceed_has_the_cheapest() -> None:
    tried = points((4, 0.8), (8, 0.9))
    assert hours_at(tried, 0.91) is None
    assert hours_at(tried, 0.5) == 4
    assert hours_at(tried, 0.9) == 8
    assert hours_at([], 0.5) is None


def test_an_interval_is_students() -> None:
    assert Interval.of([3.0]) == Interval(mean=3.0, half=None)
    five = Interval.of([1.0, 2.0, 3.0, 4.0, 5.0])
    assert five.mean == 3.0
    assert five.half == pytest.approx(2.78 * 1.5811 / 5**0.5, rel=1e-3)


def test_a_pairing_has_both_sides_of_the_bar() -> None:
    """Cheaper alone is not enough, nor is better alone; better and cheaper is in bounds."""
    planner = PLANNERS[0]
    plays = [
        *(line(CHART, 10.0, 0.95, seed=seed) for seed in range(4)),
        *(line("HPAs, 1 waiting", 8.0, 0.85, seed=seed) for seed in range(4)),
        line(planner, 8.9, 0.946, seed=0),
        line(planner, 9.0, 0.944, seed=1),
        line(planner, 9.1, 0.99, seed=2),
        line(planner, 7.0, 0.99, seed=3),
        line(planner, 7.0, 0.99, seed=4),
    ]
    found = pairings(plays, "w", planner)
    assert [each.is_in_bounds for each in found] == [True, False, False, True]
    assert found[0].at_own == pytest.approx(8.9 / 9.92 - 1)
    assert found[2].at_own is None
    assert found[1].at_chart is None
    assert found[3].at_chart == pytest.approx(-0.3)
    assert len(describe(found)) == 2 + 4 + 1
    assert "2 of 4" in describe(found)[-1]
