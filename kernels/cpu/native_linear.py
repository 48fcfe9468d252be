"""The native linear layer: how weights and rows are handed to it. native/linear.h says how it computes and is exact."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from kernels.cpu.huge_pages import huge_tensor
from kernels.cpu.library import Native
from kernels.gate import Gate

TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
"""native/linear.h, enum Type."""

GATES: dict[Gate | None, int] = {None: 0, Gate.SILU: 1, Gate.GELU_TANH: 2}
"""native/linear.h, enum Gate: what it can apply before a result is stored."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PackedWeight:
    """A weight (O, C) in panels. With a `gate` its two halves become one result."""

    native: Native
    dtype: torch.dtype
    num_outputs: int
    num_channels: int
    gate: Gate | None
    packed: Tensor
    bias: Tensor | None

    @property
    def num_results(self) -> int:
        """Channels of what comes out."""
        return self.num_outputs if self.gate is None else self.num_outputs // 2


@dataclass(frozen=True, slots=True)
class _Functions:
    num_bytes: Callable[..., int]
    pack: Callable[..., int]
    pack_bias: Callable[..., int]
    multiply: Callable[..., int]


@cache
def _functions(native: Native) -> _Functions:
    return _Functions(
        native.bind("baton_linear_bytes", "iiii"),
        native.bind("baton_linear_pack", "iiiipp"),
        native.bind("baton_linear_pack_bias", "iipp"),
        native.bind("baton_linear", "iiiippipippi"),
    )


def pack(native: Native, weight_OC: Tensor, bias_O: Tensor | None, gate: Gate | None = None) -> PackedWeight:
    """Copy a weight into panels. A gated one has its gates in the first half of its rows."""
    functions = _functions(native)
    num_outputs, num_channels = weight_OC.shape
    shape = (TYPES[weight_OC.dtype], num_outputs, num_channels, GATES[gate])
    num_bytes = functions.num_bytes(*shape)
    assert num_bytes > 0, f"no packed form of {tuple(weight_OC.shape)} {weight_OC.dtype} with gate {gate}"
    packed, source_OC = huge_tensor(num_bytes), weight_OC.contiguous()
    functions.pack(*shape, source_OC.data_ptr(), packed.data_ptr())
    bias = None
    if bias_O is not None:
        wide_O = bias_O.float().contiguous()
        bias = torch.empty(num_bytes // (packed_depth(weight_OC) * weight_OC.element_size()))
        functions.pack_bias(num_outputs, GATES[gate], wide_O.data_ptr(), bias.data_ptr())
    return PackedWeight(
        native=native,
        dtype=weight_OC.dtype,
        num_outputs=num_outputs,
        num_channels=num_channels,
        gate=gate,
        packed=packed,
        bias=bias,
    )


def packed_depth(weight_OC: Tensor) -> int:
    """Channels as they are packed: bf16 is filled up to whole tiles."""
    num_channels = weight_OC.shape[1]
    return -(-num_channels // 32) * 32 if weight_OC.dtype is torch.bfloat16 else num_channels


def multiply(x_TC: Tensor, weight: PackedWeight, residual_TO: Tensor | None, *, is_wide: bool) -> Tensor:
    """x W^T + b, gated if the weight is, plus the residual: (T, results), fp32 if wide. One rounding at the end."""
    assert x_TC.dtype is weight.dtype
    assert x_TC.shape[1] == weight.num_channels
    rows_TC = x_TC if x_TC.stride(1) == 1 else x_TC.contiguous()
    num_rows = rows_TC.shape[0]
    y_TO = torch.empty(num_rows, weight.num_results, dtype=torch.float32 if is_wide else weight.dtype)
    residual = None if residual_TO is None else residual_TO.contiguous()
    assert residual is None or (residual.shape == y_TO.shape and residual.dtype is weight.dtype)
    _functions(weight.native).multiply(
        TYPES[weight.dtype],
        weight.num_outputs,
        weight.num_channels,
        GATES[weight.gate],
        weight.packed.data_ptr(),
        None if weight.bias is None else weight.bias.data_ptr(),
        num_rows,
        rows_TC.data_ptr(),
        rows_TC.stride(0),
        None if residual is None else residual.data_ptr(),
        y_TO.data_ptr(),
        int(is_wide),
    )
    return y_TO
