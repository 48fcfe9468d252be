"""The gate of the feed-forward network. Bound by bytes: two reads, one write."""

from torch import Tensor
from torch.nn import functional


def silu_and_multiply(gate_up_TI: Tensor) -> Tensor:
    """silu(gate) * up as (T, I/2): gate is the first half of the fused projection's last axis, up the second."""
    gate, up = gate_up_TI.chunk(2, dim=-1)
    return functional.silu(gate) * up
