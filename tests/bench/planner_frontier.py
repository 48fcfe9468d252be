"""Hours at equal attainment: the cheapest that a family of settings can do, and differences over paired seeds. Pure."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev

T_95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)
"""Student's t, two-sided 95 %, by degrees of freedom from 1; beyond the last: 1.96 + 2.4 / freedom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One setting on one workload: what it cost, and the share in time."""

    hours: float
    met: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean, and what it may be out by with 95 %; None of a single value."""

    mean: float
    half: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Interval":
        """Of differences within pairs: what a seed does to both is not in them."""
        freedom = len(values) - 1
        if not freedom:
            return cls(mean=values[0], half=None)
        t = T_95[freedom - 1] if freedom <= len(T_95) else 1.96 + 2.4 / freedom
        return cls(mean=fmean(values), half=t * stdev(values) / math.sqrt(len(values)))


def frontier(points: Iterable[Point]) -> tuple[Point, ...]:
    """Those that no other, and no mix of two others, is at least as good as for fewer hours: the lower convex hull of
    hours over attainment. Both rise along it. A mix is what switching between two settings would do: generous, as
    nobody who installs an HPA knows its best target."""
    best: list[Point] = []
    for point in sorted(points, key=lambda each: (each.hours, -each.met)):
        if best and point.met <= best[-1].met:
            continue
        while len(best) > 1 and _slope(best[-2], best[-1]) < _slope(best[-1], point):
            best.pop()
        best.append(point)
    return tuple(best)


def hours_at(points: Iterable[Point], met: float) -> float | None:
    """The fewest hours for this share in time, between two points of the frontier; the cheapest point's where all are
    better; None where none is as good."""
    edge = frontier(points)
    if not edge or met > edge[-1].met:
        return None
    for low, high in pairwise(edge):
        if low.met < met <= high.met:
            return low.hours + (high.hours - low.hours) * (met - low.met) / (high.met - low.met)
    return edge[0].hours


def _slope(low: Point, high: Point) -> float:
    """Attainment per hour: it falls along a frontier."""
    return (high.met - low.met) / (high.hours - low.hours) if high.hours > low.hours else math.inf
