"""How far a kernel may be from its oracle, per type."""

import torch
from torch import Tensor

TOLERANCE = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}
"""Of the largest number. fp32: sums in another order. Others: a rounding of theirs; the interpreter cuts bf16 off."""

TYPES = sorted(TOLERANCE, key=str)


def assert_close(actual: Tensor, expected: Tensor) -> None:
    assert actual.dtype is expected.dtype
    assert actual.shape == expected.shape
    if actual.numel():
        scale = expected.float().abs().max().clamp(min=1e-6)
        assert (actual.float() - expected.float()).abs().max() / scale < TOLERANCE[expected.dtype]
