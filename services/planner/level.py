"""How high the load stands: a mean of minutes that does not trail behind a tide. Pure.

    smooth += share * (value - smooth)        twice += share * (smooth - twice)        level = 2 * smooth - twice

A plain mean of LEVEL_S trails a rise or fall by as long; `twice` trails `smooth` by the same again, so their difference
is what the tide did meanwhile (double exponential smoothing, Brown 1956). Bursts are to be levelled out, not followed.
"""

import math
from dataclasses import dataclass

LEVEL_S = 600.0
"""Measured: with 400 the gaps between the bursts of the Azure trace look like an ebb: 1.2 to 1.6 points more are late,
under each of three seeds, for less than 1 % of the hours. Price: up to 5 % of the hours of a day that is squeezed into
an hour (docs/scaling.md)."""

LEAST = 0.3
"""Chosen: share of `smooth` below which no fall is believed: after a burst both terms are nearly equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Of one role's load. `seen_s`: for how long it was watched; the first minutes are plain means."""

    smooth: float = 0.0
    twice: float = 0.0
    seen_s: float = 0.0

    @property
    def now(self) -> float:
        return max(2.0 * self.smooth - self.twice, LEAST * self.smooth)

    def after(self, value: float, seconds: float) -> "Level":
        """With this value for the last `seconds`, above 0."""
        seen_s = self.seen_s + seconds
        share = max(seconds / seen_s, 1.0 - math.exp(-seconds / LEVEL_S))
        smooth = self.smooth + share * (value - self.smooth)
        return Level(smooth=smooth, twice=self.twice + share * (smooth - self.twice), seen_s=seen_s)
