"""Rotary frequencies and their tables.

angle(position, i) = position * frequency(i),    frequency(i) = theta^(-2i / D)      before scaling; D turned channels
"""

import math
from typing import assert_never

import torch
from torch import Tensor

from common.model.rope_form import LinearScaling, Llama3Scaling, LongScaling, Rope, YarnScaling

TABLE_ROWS = 8192  # Positions whose cosine and sine are computed at once, in fp64.


def frequencies(rope: Rope, num_turned: int, max_context: int) -> Tensor:
    """Radians per position of every channel pair, (num_turned / 2,) fp32, for contexts of up to `max_context`."""
    exponents = torch.arange(0, num_turned, 2, dtype=torch.int64).float() / num_turned
    plain = 1.0 / rope.theta**exponents
    scaling = rope.scaling
    match scaling:
        case None:
            return plain
        case LinearScaling(factor=factor):
            return plain / factor
        case Llama3Scaling():
            return _llama3(plain, scaling)
        case YarnScaling():
            return _yarn(plain, scaling, rope.theta)
        case LongScaling():
            return 1.0 / (torch.tensor(scaling.factors(max_context)) * rope.theta**exponents)
        case _:
            assert_never(scaling)


def rotary_tables(rope: Rope, head_dim: int, max_context: int) -> tuple[Tensor, Tensor]:
    """cos_PE and sin_PE of every position below `max_context`, fp32; E is half the number of turned channels.

    Cosines are taken in fp64 and rounded: whatever machine and thread count, two workers have the same table.
    """
    scale = rope.scaling.attention_factor if isinstance(rope.scaling, YarnScaling | LongScaling) else 1.0
    frequencies_E = frequencies(rope, rope.num_turned(head_dim), max_context)
    cos_PE = torch.empty(max_context, len(frequencies_E))
    sin_PE = torch.empty_like(cos_PE)
    for first in range(0, max_context, TABLE_ROWS):
        own = slice(first, min(max_context, first + TABLE_ROWS))
        positions_P = torch.arange(own.start, own.stop, dtype=torch.float32)
        angles_PE = torch.outer(positions_P, frequencies_E).double()
        cos_PE[own], sin_PE[own] = angles_PE.cos() * scale, angles_PE.sin() * scale
    return cos_PE, sin_PE


def _llama3(plain: Tensor, scaling: Llama3Scaling) -> Tensor:
    """Llama 3.1: a pair that turns more than `high_freq_factor` times within the original context keeps its frequency,
    one that turns less than `low_freq_factor` times is slowed by `factor`, and between the two they are blended.
    """
    turns = scaling.original_positions / (2 * math.pi / plain)
    kept = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    share = kept.clamp(0.0, 1.0)
    return (1 - share) * plain / scaling.factor + share * plain


def _yarn(plain: Tensor, scaling: YarnScaling, theta: float) -> Tensor:
    """YaRN (Peng et al., 2023): pairs below the first border keep their frequency, those above the last are slowed."""
    num_turned = 2 * len(plain)

    def border(num_turns: float) -> float:
        """The channel that turns this often within the original context, as a fraction of a channel."""
        log = math.log(scaling.original_positions / (num_turns * 2 * math.pi))
        return num_turned * log / (2 * math.log(theta))

    first, last = border(scaling.beta_fast), border(scaling.beta_slow)
    if scaling.truncates:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, num_turned - 1)
    width = last - first if last != first else 0.001  # A step, but no division by zero.
    slowed = ((torch.arange(len(plain), dtype=torch.float32) - first) / width).clamp(0, 1)
    return plain / scaling.factor * slowed + plain * (1 - slowed)
