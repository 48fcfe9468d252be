"""Rotary frequencies and their tables.

angle(position, i) = position * frequency(i),    frequency(i) = theta^(-2i / D)      before scaling
"""

import math
from typing import assert_never

import torch
from torch import Tensor

from common.model.spec import LinearScaling, Llama3Scaling, Rope


def frequencies(rope: Rope, head_dim: int) -> Tensor:
    """Radians per position of every channel pair, (head_dim / 2,) fp32."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
    plain = 1.0 / rope.theta**exponents
    match rope.scaling:
        case None:
            return plain
        case LinearScaling(factor=factor):
            return plain / factor
        case Llama3Scaling():
            return _llama3(plain, rope.scaling)
        case _:
            assert_never(rope.scaling)


def rotary_tables(rope: Rope, head_dim: int, num_positions: int) -> tuple[Tensor, Tensor]:
    """cos_PE and sin_PE of every position, fp32; E = head_dim / 2."""
    positions = torch.arange(num_positions, dtype=torch.float32)
    angles_PE = torch.outer(positions, frequencies(rope, head_dim))
    return angles_PE.cos(), angles_PE.sin()


def _llama3(plain: Tensor, scaling: Llama3Scaling) -> Tensor:
    """Llama 3.1: a pair that turns more than `high_freq_factor` times within the original context keeps its frequency,
    one that turns less than `low_freq_factor` times is slowed by `factor`, and between the two they are blended.
    """
    turns = scaling.original_positions / (2 * math.pi / plain)
    kept = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    share = kept.clamp(0.0, 1.0)
    return (1 - share) * plain / scaling.factor + share * plain
