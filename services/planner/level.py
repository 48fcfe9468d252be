"""How high the load stands: a mean of minutes that does not trail behind a tide, and how far chance may carry it. Pure.

    smooth += share * (value - smooth)        twice += share * (smooth - twice)        level = 2 * smooth - twice

A plain mean of LEVEL_S trails a rise or fall by as long; `twice` trails `smooth` by the same again, so their difference
is what the tide did meanwhile (double exponential smoothing, Brown 1956). Bursts make such a mean uncertain: how much,
the difference between one block of a minute and the next tells, in which a tide does not show (von Neumann 1941).

    doubt = sqrt(mean((block - block before)^2) / 2)        least, most = level -+ doubt
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

LEAST = 0.3
"""Chosen: share of `smooth` below which no fall is believed: after a burst both terms are nearly equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Of one role's load. It begins at 0 and is too low for its first minutes: what comes first is no height to fall
    from. `block_s`, `block_sum`: of the block under way; `block`: the mean of the last one; `variance` of blocks."""

    smooth: float = 0.0
    twice: float = 0.0
    block_s: float = 0.0
    block_sum: float = 0.0
    block: float = 0.0
    num_blocks: int = 0
    variance: float = 0.0

    @property
    def now(self) -> float:
        return max(2.0 * self.smooth - self.twice, LEAST * self.smooth)

    @property
    def least(self) -> float:
        """As low as it may be for all that was seen: 0 until LEVEL_S were."""
        is_young = self.num_blocks * BLOCK_S < LEVEL_S
        return 0.0 if is_young else max(0.0, self.now - math.sqrt(self.variance))

    @property
    def most(self) -> float:
        """As high."""
        return self.now + math.sqrt(self.variance)

    def after(self, value: float, seconds: float) -> "Level":
        """With this value for the last `seconds`, above 0."""
        share = 1.0 - math.exp(-seconds / LEVEL_S)
        smooth = self.smooth + share * (value - self.smooth)
        twice = self.twice + share * (smooth - self.twice)
        block_s, block_sum = self.block_s + seconds, self.block_sum + value * seconds
        later = replace(self, smooth=smooth, twice=twice, block_s=block_s, block_sum=block_sum)
        return later if block_s < BLOCK_S else later._with_block(block_sum / block_s)

    def _with_block(self, block: float) -> "Level":
        variance = self.variance
        if self.num_blocks:
            weight = max(1.0 / self.num_blocks, 1.0 / MEMORY_BLOCKS)
            variance += weight * ((block - self.block) ** 2 / 2 - variance)
        num_blocks = self.num_blocks + 1
        return replace(self, block_s=0.0, block_sum=0.0, block=block, num_blocks=num_blocks, variance=variance)
