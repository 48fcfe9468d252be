"""What one forward pass is told: tokens of many sequences end to end, and where their KV lies. Tensors and integers."""

from dataclasses import dataclass

from torch import Tensor

from kernels.attention import AttentionRows
from kernels.wanted_rows import WantedRows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RaggedTokens:
    """T tokens: those of `rows`, one after the other.

    `pages_T` are the pages that take each token's keys and values. Logits are computed of the `wanted` tokens only.
    Positions are below `num_positions`, ids in `ids`: what a device would not say before it is too late.
    """

    tokens_T: Tensor
    positions_T: Tensor
    pages_T: Tensor
    rows: AttentionRows
    wanted: WantedRows
    num_positions: int
    ids: range
