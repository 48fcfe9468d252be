"""Root-mean-square normalisation over channels. Bound by bytes: one read, one write.

A weight may be wider than what it scales (fp32 beside bf16): then the product is rounded once, at the end.
A row's result does not depend on T: torch reduces each row on its own.
"""

from torch import Tensor
from torch.nn import functional


def rms_norm(x_TC: Tensor, weight_C: Tensor, epsilon: float) -> Tensor:
    """x / sqrt(mean(x^2) + epsilon) * weight; mean and root in fp32. x (T, C) contiguous, any float type."""
    normal_TC = functional.rms_norm(x_TC.to(weight_C.dtype), (x_TC.shape[-1],), weight_C, epsilon)
    return normal_TC.to(x_TC.dtype)


def rms_norm_heads_(x_THD: Tensor, weight_HD: Tensor, epsilon: float) -> None:
    """The same over the last axis of every head, in place, each head with its own weight. x may be strided."""
    normal_THD = functional.rms_norm(x_THD.to(weight_HD.dtype), (x_THD.shape[-1],), None, epsilon)
    x_THD.copy_(normal_THD.mul_(weight_HD))
