"""The linear layer, with its weight laid out once for the device that multiplies by it.

Bound by bytes of the weight up to some tens of rows, by FLOPs above.
"""

from dataclasses import dataclass

from torch import Tensor

from kernels import reference
from kernels.cpu import packed_linear
from kernels.dispatch import Backend, backend


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinearWeight:
    """A weight ready to multiply by. `weight` is opaque where `is_packed`: only `linear` may read it."""

    weight: Tensor
    bias_O: Tensor | None
    is_packed: bool


def prepare(weight_OC: Tensor, bias_O: Tensor | None = None) -> LinearWeight:
    """Lay out a weight (O, C) for its device. The caller may drop `weight_OC` afterwards."""
    is_packed = backend(weight_OC) is Backend.CPU and packed_linear.can_pack(weight_OC)
    weight = packed_linear.pack(weight_OC) if is_packed else weight_OC.contiguous()
    return LinearWeight(weight=weight, bias_O=bias_O, is_packed=is_packed)


def linear(x_TC: Tensor, weight: LinearWeight) -> Tensor:
    """x W^T + b, (T, O). In fp32 on the CPU a row's result does not depend on T, bit for bit."""
    if weight.is_packed:
        return packed_linear.linear(x_TC, weight.weight, weight.bias_O)
    if backend(x_TC) is Backend.CPU:
        return packed_linear.linear_unpacked(x_TC, weight.weight, weight.bias_O)
    return reference.linear(x_TC, weight.weight, weight.bias_O)
