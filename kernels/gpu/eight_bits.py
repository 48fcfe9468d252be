"""Numbers of eight-bit pages in registers: kernels/quantized_pages, bit for bit.

Pages of integers are pointers to int8, pages of floats (e4m3) pointers to uint8: the element's type names the kind to
the compiler. Floats are taken apart by hand where the device has no instruction for it (before sm_89) and in the
interpreter; both ways are exact. The pattern of NaN is never stored, so nobody asks what it becomes.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.target_info import cuda_capability_geq

from kernels.gpu.dialect import IS_INTERPRETED
from kernels.quantized_pages import LARGEST, SMALLEST, is_quantized

INT8_LARGEST = tl.constexpr(LARGEST[torch.int8])
FP8_LARGEST = tl.constexpr(LARGEST[torch.float8_e4m3fn])
SMALLEST_VECTOR = tl.constexpr(SMALLEST)
MAGIC_INTEGER = tl.constexpr(12582912.0)
"""1.5 * 2^23: adding and taking it away rounds whatever is below 2^22 to an integer, ties to even."""
MAGIC_STEP = tl.constexpr(16384.0)
"""2^14: beside it, fp32 has steps of 2^-9, the smallest number of e4m3."""


def page_words(kv_PL2KSE: Tensor) -> Tensor:
    """Pages as kernels take them."""
    return kv_PL2KSE.view(torch.uint8) if kv_PL2KSE.dtype is torch.float8_e4m3fn else kv_PL2KSE


def page_scales(kv_PL2KSE: Tensor) -> Tensor:
    """The same bytes as scales, which lie behind the numbers of their chunk; any pointer where there are none."""
    return kv_PL2KSE.view(-1).view(torch.float32) if is_quantized(kv_PL2KSE) else kv_PL2KSE


@triton.jit
def from_e4m3(bits):
    """uint8 to fp16, exactly: sign, exponent and fraction moved into place, and the exponent's bias mended."""
    if not IS_INTERPRETED and cuda_capability_geq(8, 9):
        return bits.to(tl.float8e4nv, bitcast=True).to(tl.float16)
    wide = bits.to(tl.uint16)
    moved = ((wide & 0x80) << 8) | ((wide & 0x7F) << 7)
    return moved.to(tl.float16, bitcast=True) * 256.0


@triton.jit
def to_e4m3(x):
    """fp32 of at most 448 (and a rounding more) to the nearest, ties to even, as uint8."""
    size = tl.abs(x)
    bits = size.to(tl.int32, bitcast=True)
    normal = (bits - (120 << 23) + 0x7FFFF + ((bits >> 20) & 1)) >> 20
    small = (size + MAGIC_STEP).to(tl.int32, bitcast=True) - 0x46800000
    sign = (x.to(tl.int32, bitcast=True) >> 24) & 0x80
    return (tl.where(size < 0.015625, small, normal) | sign).to(tl.uint8)


@triton.jit
def stored(x, factor, dtype: tl.constexpr):
    """x * factor as a number of such pages; 0 for what is not finite."""
    scaled = tl.where(tl.abs(x) < float("inf"), x, 0.0) * factor
    return to_e4m3(scaled) if dtype == tl.uint8 else ((scaled + MAGIC_INTEGER) - MAGIC_INTEGER).to(tl.int8)


@triton.jit
def factor_and_scale(largest, dtype: tl.constexpr):
    """What numbers are multiplied by on their way into a page, and on their way out."""
    limit = INT8_LARGEST
    if dtype == tl.uint8:
        limit = FP8_LARGEST
    is_large = largest >= SMALLEST_VECTOR
    factor = tl.where(
        is_large, tl.div_rn(tl.full(largest.shape, limit, tl.float32), tl.where(is_large, largest, 1.0)), 0.0
    )
    return factor, tl.div_rn(largest, limit)
