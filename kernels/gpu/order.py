"""Floats as integers that rise as they do: what sampling searches and sorts by.

A float's bits, read as an integer, order like the float once the negative half is turned around. A negative zero
becomes zero first, so that equal floats are equal integers. NaN has no place: rows with one are not sampled.
"""

import triton
import triton.language as tl

LOWEST = tl.constexpr(-(2**31))
"""Below every float's integer."""


@triton.jit
def ordered(x):
    """int64 in [-2^31, 2^31), of fp32."""
    bits = (x + 0.0).to(tl.int32, bitcast=True)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.int64)


@triton.jit
def float_of(order):
    """The fp32 whose integer this is."""
    bits = order.to(tl.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)
