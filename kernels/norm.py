"""Root-mean-square normalisation over channels. Bound by bytes: one read, one write.

A weight may be wider than what it scales (fp32 beside bf16): then the product is rounded once, at the end.
A row's result does not depend on T: torch reduces each row on its own.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from kernels.dispatch import Backend, backend


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeadNorm:
    """The norm of every query and key head, each with a row of `weight_GD`."""

    weight_GD: Tensor
    epsilon: float


def rms_norm(x_TC: Tensor, weight_C: Tensor, epsilon: float) -> Tensor:
    """x / sqrt(mean(x^2) + epsilon) * weight; mean and root in fp32. x (T, C) contiguous, any float type."""
    if backend(x_TC) is Backend.TRITON:
        from kernels.gpu.norm import norm

        return norm(x_TC, weight_C, epsilon)
    normal_TC = functional.rms_norm(x_TC.to(weight_C.dtype), (x_TC.shape[-1],), weight_C, epsilon)
    return normal_TC.to(x_TC.dtype)


def rms_norm_heads_(x_THD: Tensor, weight_HD: Tensor, epsilon: float) -> None:
    """The same over the last axis of every head, in place, each head with its own weight. x may be strided."""
    if backend(x_THD) is Backend.TRITON and x_THD.shape[1] == 1:
        from kernels.gpu.norm import norm_

        norm_(x_THD[:, 0], weight_HD[0], epsilon)
        return
    normal_THD = functional.rms_norm(x_THD.to(weight_HD.dtype), (x_THD.shape[-1],), None, epsilon)
    x_THD.copy_(normal_THD.mul_(weight_HD))


def add_norm_(
    stream_TC: Tensor,
    weight_C: Tensor | None,
    epsilon: float,
    *,
    added_TC: Tensor | None = None,
    post_C: Tensor | None = None,
    scale: float = 1.0,
) -> Tensor:
    """stream += scale * added, where `post_C` is given of the normalised `added_TC`; then the norm of the stream, or
    the stream itself where `weight_C` is None. On a GPU one pass.
    """
    if backend(stream_TC) is Backend.TRITON:
        from kernels.gpu.norm import add_norm_ as add_norm_on_gpu_

        return add_norm_on_gpu_(stream_TC, weight_C, epsilon, added_TC=added_TC, post_C=post_C, scale=scale)
    if added_TC is not None:
        added_TC = added_TC if post_C is None else rms_norm(added_TC, post_C, epsilon)
        stream_TC.add_(added_TC if scale == 1.0 else added_TC * scale)
    return stream_TC if weight_C is None else rms_norm(stream_TC, weight_C, epsilon)
