"""How high the load stands: a mean of minutes that does not trail behind a tide, and how far chance may carry it. Pure.

    smooth += share * (value - smooth)        twice += share * (smooth - twice)        level = 2 * smooth - twice

A plain mean of LEVEL_S trails a rise or fall by as long; `twice` trails `smooth` by the same again, so their difference
is what the tide did meanwhile (double exponential smoothing, Brown 1956). Bursts make such a mean uncertain: how much,
the difference between one block of a minute and the next tells, in which a tide does not show (von Neumann 1941).

    doubt = sqrt(mean((block - block before)^2) / 2)        least, most = level -+ doubt
    error = doubt / sqrt(blocks seen) / mean                of all that was seen: few bursts do not know their mean
"""

import math
from dataclasses import dataclass, replace

LEVEL_S = 300.0
"""Measured: with 600 the ebb of a day that is squeezed into an hour costs 7 % more hours. Doubt, and not a longer mean,
keeps the gaps between bursts from looking like an ebb (docs/scaling.md)."""

BLOCK_S = 60.0
"""Chosen: longer than most bursts, several of them within LEVEL_S."""

MEMORY_BLOCKS = 20
"""Chosen: the doubt is a mean over so many blocks. Of blocks without memory, the level strays by half of their
deviation, so one deviation is twice the level's own."""

MEAN_BLOCKS = 60
"""Derived: an hour, as long as the window of what is tried may be."""

LEAST = 0.3
"""Chosen: share of `smooth` below which no fall is believed: after a burst both terms are nearly equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """Between which levels the present is. `least` 0: nothing is known to be below it."""

    least: float
    most: float

    def scale(self, then: float, *, was_young: bool) -> float:
        """What to multiply work by that came at level `then`, so that it is as it would come now; 1 where chance
        explains the difference, or a level that was young was too low."""
        if then > self.most:
            return self.most / then
        if then < self.least and then > 0.0 and not was_young:
            return self.least / then
        return 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Of one role's load, seen for `seen_s`. It begins at 0 and is too low while it is young: what comes first is no
    height to fall from. `block_s`, `block_sum`: of the block under way; `block`: the mean of the last one; `variance`
    of blocks, and their `mean`."""

    smooth: float = 0.0
    twice: float = 0.0
    seen_s: float = 0.0
    block_s: float = 0.0
    block_sum: float = 0.0
    block: float = 0.0
    num_blocks: int = 0
    variance: float = 0.0
    mean: float = 0.0

    @property
    def now(self) -> float:
        smooth, twice = self._means
        return max(2.0 * smooth - twice, LEAST * smooth)

    @property
    def is_young(self) -> bool:
        """It has not had its time yet, and still rises from 0."""
        return self.seen_s < LEVEL_S

    @property
    def least(self) -> float:
        """As low as it may be for all that was seen: 0 until LEVEL_S were."""
        return 0.0 if self.is_young else max(0.0, self.now - math.sqrt(self.variance))

    @property
    def most(self) -> float:
        """As high."""
        return self.now + math.sqrt(self.variance)

    @property
    def error(self) -> float:
        """Of the mean of what was seen, as a share of it: one deviation. 0 until two blocks can differ."""
        if self.num_blocks < 2 or self.mean <= 0.0:
            return 0.0
        return math.sqrt(self.variance / min(self.num_blocks, MEAN_BLOCKS)) / self.mean

    def present(self, lead_s: float) -> "Present":
        """As it will be in `lead_s`, when whoever is asked for now is ready: a tide that rises goes on until then."""
        smooth, twice = self._means
        ahead = 0.0 if self.is_young else max(0.0, smooth - twice) * lead_s / LEVEL_S
        return Present(least=self.least + ahead if self.least > 0.0 else 0.0, most=self.most + ahead)

    def after(self, value: float, seconds: float) -> "Level":
        """With this value for the last `seconds`, above 0."""
        share = 1.0 - math.exp(-seconds / LEVEL_S)
        smooth = self.smooth + share * (value - self.smooth)
        twice = self.twice + share * (smooth - self.twice)
        block_s, block_sum = self.block_s + seconds, self.block_sum + value * seconds
        seen_s = self.seen_s + seconds
        later = replace(self, smooth=smooth, twice=twice, seen_s=seen_s, block_s=block_s, block_sum=block_sum)
        return later if block_s < BLOCK_S else later._with_block(block_sum / block_s)

    @property
    def _means(self) -> tuple[float, float]:
        """`smooth` and `twice` without the 0 they began at, once that is over."""
        if self.is_young:
            return self.smooth, self.twice
        age = self.seen_s / LEVEL_S
        return self.smooth / (1.0 - math.exp(-age)), self.twice / (1.0 - math.exp(-age) * (1.0 + age))

    def _with_block(self, block: float) -> "Level":
        variance = self.variance
        if self.num_blocks:
            weight = max(1.0 / self.num_blocks, 1.0 / MEMORY_BLOCKS)
            variance += weight * ((block - self.block) ** 2 / 2 - variance)
        num_blocks = self.num_blocks + 1
        mean = self.mean + max(1.0 / num_blocks, 1.0 / MEAN_BLOCKS) * (block - self.mean)
        later = replace(self, num_blocks=num_blocks, variance=variance, mean=mean)
        return replace(later, block_s=0.0, block_sum=0.0, block=block)
