"""How a model turns its queries and keys by their positions: base, share of channels, scaling. common/model/rope
computes with it.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearScaling:
    """Positions are divided by `factor`."""

    factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Llama3Scaling:
    """Slow rotations are divided by `factor`, fast ones kept, those between blended."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_positions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class YarnScaling:
    """As Llama 3's, blended by the channel's number between those that turn `beta_fast` and `beta_slow` times within
    the original context; `attention_factor` scales cosine and sine. `truncates` rounds the two channels outwards.
    """

    factor: float
    original_positions: int
    beta_fast: float
    beta_slow: float
    attention_factor: float
    truncates: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LongScaling:
    """Every frequency is divided by a factor of its own. Which of the two sets holds for all positions depends on the
    longest context that is served: `short` up to the original one, `long` beyond.
    """

    short: tuple[float, ...]
    long: tuple[float, ...]
    original_positions: int
    attention_factor: float

    def factors(self, max_context: int) -> tuple[float, ...]:
        return self.long if max_context > self.original_positions else self.short


Scaling = LinearScaling | Llama3Scaling | YarnScaling | LongScaling


@dataclass(frozen=True, slots=True, kw_only=True)
class Rope:
    """Rotary position embedding. The leading `share` of a head's channels is turned, the others pass."""

    theta: float
    scaling: Scaling | None
    share: float = 1.0

    def num_turned(self, head_dim: int) -> int:
        """Channels of a head that are turned: an even number."""
        return int(head_dim * self.share)
