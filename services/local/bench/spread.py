"""How measured values lie: percentiles that say of how many."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

MS = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Percentiles by nearest rank: each is a value that was measured. p99 of fewer than 100 is the largest."""

    count: int
    p50: float
    p90: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self | None:
        """None when there is nothing to say."""
        ordered = sorted(values)
        if not ordered:
            return None

        def rank(share: float) -> float:
            return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

        return cls(count=len(ordered), p50=rank(0.5), p90=rank(0.9), p99=rank(0.99), max=ordered[-1])

    def figures(self, name: str) -> Mapping[str, float]:
        """Values in seconds as named figures in milliseconds: `itl_ms_p50`, ..., `itl_count`."""
        return {
            f"{name}_ms_p50": self.p50 * MS,
            f"{name}_ms_p90": self.p90 * MS,
            f"{name}_ms_p99": self.p99 * MS,
            f"{name}_ms_max": self.max * MS,
            f"{name}_count": float(self.count),
        }


def spread_figures(name: str, seconds: Iterable[float]) -> Mapping[str, float]:
    """The figures of a spread, none when there is no value."""
    spread = Spread.of(seconds)
    return {} if spread is None else spread.figures(name)
