"""What kernels are written with where Triton's own words are not enough."""

import triton
import triton.language as tl

IS_INTERPRETED = tl.constexpr(bool(triton.knobs.runtime.interpret))
"""Whether kernels run in Triton's interpreter (TRITON_INTERPRET=1 before triton was imported). It keeps bf16 as bare
16-bit integers: only loads, stores and casts are right. So kernels widen what they load before they compute with it,
and products of matrices go through `dot`."""

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def dot(a_MK, b_KN, sum_MN):
    """sum + a b in fp32. fp32 factors are multiplied as such, not as tf32."""
    if IS_INTERPRETED:
        return tl.dot(a_MK.to(tl.float32), b_KN.to(tl.float32), sum_MN, input_precision="ieee")
    return tl.dot(a_MK, b_KN, sum_MN, input_precision="ieee")
