"""The linear layer, with its weight laid out once for the device that multiplies by it.

Bound by bytes of the weight up to some tens of rows, by FLOPs above.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from kernels import reference
from kernels.activation import gate_and_multiply
from kernels.cpu import native_linear, packed_linear
from kernels.cpu.native_linear import PackedWeight
from kernels.dispatch import Backend, backend, is_exact, native
from kernels.gate import Gate


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TorchWeight:
    """A weight that torch multiplies by; opaque where `is_packed`."""

    weight: Tensor
    bias_O: Tensor | None
    is_packed: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinearWeight:
    """A weight ready to multiply by: only `linear` may read it. With a `gate` its two halves become one result."""

    layout: PackedWeight | TorchWeight
    gate: Gate | None

    @property
    def is_native(self) -> bool:
        return isinstance(self.layout, PackedWeight)


def prepare(weight_OC: Tensor, bias_O: Tensor | None = None, *, gate: Gate | None = None) -> LinearWeight:
    """Lay out a weight (O, C) for its device. The caller may drop `weight_OC` afterwards.

    With a gate, O is even and the result is gate(first half) * second half, (T, O/2).
    """
    library = native() if backend(weight_OC) is Backend.CPU else None
    if library is not None and weight_OC.dtype in native_linear.TYPES and gate in native_linear.GATES:
        return LinearWeight(layout=native_linear.pack(library, weight_OC, bias_O, gate), gate=gate)
    return LinearWeight(layout=_prepare_torch(weight_OC, bias_O), gate=gate)


def stacked(weights: Sequence[LinearWeight]) -> tuple[Tensor, tuple[LinearWeight, ...]] | None:
    """Weights of one shape as weights_EOC, and themselves as views of it; None where they are laid out otherwise, have
    biases, or kernels would not read them."""
    layouts = [weight.layout for weight in weights]
    plain = [layout for layout in layouts if isinstance(layout, TorchWeight) and not layout.is_packed]
    if len(plain) < len(layouts) or any(layout.bias_O is not None for layout in plain):
        return None
    if backend(plain[0].weight) is not Backend.TRITON:
        return None
    weights_EOC = torch.stack([layout.weight for layout in plain])
    views = (TorchWeight(weight=weight_OC, bias_O=None, is_packed=False) for weight_OC in weights_EOC)
    own = tuple(LinearWeight(layout=view, gate=weight.gate) for view, weight in zip(views, weights, strict=True))
    return weights_EOC, own


def linear(x_TC: Tensor, weight: LinearWeight, *, residual_TO: Tensor | None = None, is_wide: bool = False) -> Tensor:
    """residual + gate(x W^T + b), (T, O) in x's type, or in fp32 if `is_wide`.

    On the CPU a row's result does not depend on T, bit for bit: in every type with native operators, in fp32 without
    them. On a GPU where the process was told to be exact (kernels/dispatch).
    """
    layout = weight.layout
    if isinstance(layout, PackedWeight) and layout.gate is weight.gate:
        return native_linear.multiply(x_TC, layout, residual_TO, is_wide=is_wide)
    if isinstance(layout, PackedWeight):
        y_TO = native_linear.multiply(x_TC, layout, None, is_wide=False)
    else:
        y_TO = _multiply_torch(x_TC, layout)
    if weight.gate is not None:
        y_TO = gate_and_multiply(y_TO, weight.gate)
    if residual_TO is not None:
        y_TO = residual_TO + y_TO
    return y_TO.float() if is_wide else y_TO


def _prepare_torch(weight_OC: Tensor, bias_O: Tensor | None) -> TorchWeight:
    is_packed = backend(weight_OC) is Backend.CPU and packed_linear.can_pack(weight_OC)
    weight = packed_linear.pack(weight_OC) if is_packed else weight_OC.contiguous()
    return TorchWeight(weight=weight, bias_O=bias_O, is_packed=is_packed)


def _multiply_torch(x_TC: Tensor, layout: TorchWeight) -> Tensor:
    if layout.is_packed:
        return packed_linear.linear(x_TC, layout.weight, layout.bias_O)
    if backend(x_TC) is Backend.TRITON and is_exact():
        from kernels.gpu.exact_linear import exact_linear

        return exact_linear(x_TC, layout.weight, layout.bias_O)
    if backend(x_TC) is Backend.TRITON:
        return functional.linear(x_TC, layout.weight, layout.bias_O)
    if backend(x_TC) is Backend.CPU:
        return packed_linear.linear_unpacked(x_TC, layout.weight, layout.bias_O)
    return reference.linear(x_TC, layout.weight, layout.bias_O)
