"""The gate of the feed-forward network. Bound by bytes: two reads, one write."""

from typing import assert_never

import torch
from torch import Tensor

from kernels.dispatch import Backend, backend
from kernels.gate import Gate

TILE_ELEMENTS = 32_768
"""Torch shares larger elementwise work out among threads, and cuts it in the middle of a row. There its scalar code
meets its vector code, and the two differ in the last bit of silu and gelu."""


def gate_and_multiply(gate_up_TI: Tensor, gate: Gate) -> Tensor:
    """gate(g) * u as (T, I/2), contiguous: g is the first half of the fused projection's last axis, u the second.

    A row's result does not depend on T or the number of threads: rows are opened in tiles, whole.
    """
    if backend(gate_up_TI) is Backend.TRITON:
        from kernels.gpu.activation import gate_and_multiply as gate_and_multiply_on_gpu

        return gate_and_multiply_on_gpu(gate_up_TI, gate)
    gate_TJ, up_TJ = gate_up_TI.chunk(2, dim=-1)
    opened_TJ = gate_up_TI.new_empty(gate_TJ.shape)
    num_rows = max(1, TILE_ELEMENTS // gate_TJ.shape[-1])
    for tile_TJ, out_TJ in zip(torch.split(gate_TJ, num_rows), torch.split(opened_TJ, num_rows), strict=True):
        _open(tile_TJ, gate, out_TJ)
    return opened_TJ.mul_(up_TJ)


def _open(tile_TJ: Tensor, gate: Gate, out_TJ: Tensor) -> None:
    match gate:
        case Gate.SILU:
            torch.ops.aten.silu.out(tile_TJ, out=out_TJ)
        case Gate.GELU:
            # Not torch's own, which takes another way for a single row.
            torch.erf(tile_TJ * 0.5**0.5, out=out_TJ).add_(1.0).mul_(tile_TJ).mul_(0.5)
        case Gate.GELU_TANH:
            torch.ops.aten.gelu.out(tile_TJ, approximate="tanh", out=out_TJ)
        case _:
            assert_never(gate)
