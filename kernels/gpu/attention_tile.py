"""What both attention kernels do with a tile of queries: walk over keys, and keep sums that any cut leaves the same.

    s = q k scale, or softcap * tanh(q k scale / softcap)        the factor to base 2 is in `factor`
    m = max(m, ceil(max s))        p = 2^(s - m)        l = l 2^(m_old - m) + sum p        acc = acc 2^(m_old - m) + p v

m is a whole number. So rescaling is by powers of two and rounds nothing, and bits depend on the order of sums alone,
not on when a larger score came by (numbers below 2^-126 of the largest apart). Key tiles lie at absolute positions, and
keys that a query may not see add exact zeros: a row's bits do not depend on its neighbours in the tile or on where
tiles begin. Kernels are compiled without fused products (`enable_fp_fusion=False`), or the compiler would round a walk
with masks otherwise than one without; the one that pays is written as `tl.fma`.

Legend: M queries of a tile (tokens x group, group fastest), N keys of a tile, D head dim.
"""

import triton
import triton.language as tl

from kernels.gpu.dialect import IS_INTERPRETED, dot
from kernels.gpu.eight_bits import from_e4m3

HIDDEN = tl.constexpr(float("-inf"))


@triton.jit
def power_of_two(exponent):
    """2^exponent for whole numbers up to 0, exactly; 0 below 2^-126."""
    return ((tl.maximum(exponent, -127.0).to(tl.int32) + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def finite(largest_M):
    """What to subtract: a query that has seen no key yet has nothing to subtract from."""
    return tl.where(largest_M == HIDDEN, 0.0, largest_M)


@triton.jit
def widened(x_ND, dtype: tl.constexpr, IS_QUANTIZED: tl.constexpr):
    """Stored keys or values as `product` takes them beside factors of `dtype`; eight-bit numbers are exact in each."""
    if x_ND.dtype == tl.uint8:
        x_ND = from_e4m3(x_ND)
    if IS_INTERPRETED:
        wide_ND = x_ND.to(tl.float32)
    elif IS_QUANTIZED and dtype == tl.float32:
        wide_ND = x_ND.to(tl.bfloat16)
    else:
        wide_ND = x_ND.to(dtype)
    return wide_ND


@triton.jit
def product(a_MK, b_KN, sum_MN, IS_QUANTIZED: tl.constexpr):
    """sum + a b. fp32 beside eight-bit numbers: three products in bf16, which hold all 24 bits of a and every bit of b.

    Otherwise b would be widened in registers, which hold it whole for products of fp32: they would spill kilobytes.
    """
    if IS_QUANTIZED and a_MK.dtype == tl.float32:
        high_MK = a_MK.to(tl.bfloat16)
        rest_MK = a_MK - high_MK.to(tl.float32)
        middle_MK = rest_MK.to(tl.bfloat16)
        low_MK = (rest_MK - middle_MK.to(tl.float32)).to(tl.bfloat16)
        sum_MN = dot(high_MK, b_KN, dot(middle_MK, b_KN, dot(low_MK, b_KN, sum_MN)))
    else:
        sum_MN = dot(a_MK, b_KN, sum_MN)
    return sum_MN


@triton.jit
def load_queries(
    q, q_stride, first_token, num_tokens, head, GROUP: tl.constexpr, M: tl.constexpr, DIM: tl.constexpr, D: tl.constexpr
):
    """q_MD of the tile; zeros beyond its tokens."""
    queries_M = tl.arange(0, M)
    dims_D = tl.arange(0, D)
    tokens_M = (first_token + queries_M // GROUP).to(tl.int64)
    at_M = tokens_M * q_stride + (head * GROUP + queries_M % GROUP) * DIM
    is_there_MD = (queries_M < num_tokens * GROUP)[:, None] & (dims_D < DIM)[None, :]
    return tl.load(q + at_M[:, None] + dims_D[None, :], is_there_MD, 0.0)


@triton.jit
def walk(
    state,
    q_MD,
    positions_M,
    pages,
    scores,
    first_key,
    end_key,
    first_seen,
    IS_MASKED: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    IS_QUANTIZED: tl.constexpr,
    SLOTS: tl.constexpr,
    DIM: tl.constexpr,
    D: tl.constexpr,
    N: tl.constexpr,
):
    """The state after keys first_key (a multiple of N) to end_key. Without masks, every query sees every one of them.

    Keys below `first_seen` are not read: whoever they belonged to may have given their page away.
    """
    acc_MD, largest_M, weight_M = state
    kv, scales, table, page_stride, keys_at, values_at, scale_page_stride, key_scales_at, value_scales_at = pages
    factor, softcap, softcap_factor, window = scores
    dims_D = tl.arange(0, D)
    for first in range(first_key, end_key, N):
        keys_N = first + tl.arange(0, N)
        is_there_N = (keys_N >= first_seen) & (keys_N < end_key)
        if IS_MASKED:
            pages_N = tl.load(table + keys_N // SLOTS, is_there_N, 0).to(tl.int64)
        else:
            pages_N = tl.load(table + keys_N // SLOTS).to(tl.int64)
        at_ND = (pages_N * page_stride + (keys_N % SLOTS) * DIM)[:, None] + dims_D[None, :]
        if IS_MASKED:
            is_there_ND = is_there_N[:, None] & (dims_D < DIM)[None, :]
            k_ND = tl.load(kv + keys_at + at_ND, is_there_ND, 0)
        elif DIM != D:
            k_ND = tl.load(kv + keys_at + at_ND, (dims_D < DIM)[None, :], 0)
        else:
            k_ND = tl.load(kv + keys_at + at_ND)
        k_DN = tl.trans(widened(k_ND, q_MD.dtype, IS_QUANTIZED))
        s_MN = product(q_MD, k_DN, tl.zeros([q_MD.shape[0], N], tl.float32), IS_QUANTIZED)
        if IS_QUANTIZED:
            scales_at_N = pages_N * scale_page_stride + keys_N % SLOTS
            s_MN = s_MN * tl.load(scales + key_scales_at + scales_at_N, is_there_N, 0.0)[None, :]
        if HAS_SOFTCAP:
            # tanh x = 1 - 2 / (1 + e^2x): never overflows, and is off by 1e-7 at most.
            s_MN = softcap * (1.0 - 2.0 / (1.0 + tl.exp2(s_MN * softcap_factor)))
        if IS_MASKED:
            is_seen_MN = (keys_N[None, :] <= positions_M[:, None]) & is_there_N[None, :]
            if HAS_WINDOW:
                is_seen_MN &= keys_N[None, :] > positions_M[:, None] - window
            s_MN = tl.where(is_seen_MN, s_MN, HIDDEN)

        larger_M = tl.maximum(largest_M, tl.ceil(tl.max(s_MN, axis=1) * factor))
        taken_M = finite(larger_M)
        p_MN = tl.exp2(tl.fma(s_MN, tl.full(s_MN.shape, 1.0, tl.float32) * factor, -taken_M[:, None]))
        rescale_M = power_of_two(largest_M - taken_M)
        weight_M = weight_M * rescale_M + tl.sum(p_MN, axis=1)
        if IS_QUANTIZED:
            p_MN = p_MN * tl.load(scales + value_scales_at + scales_at_N, is_there_N, 0.0)[None, :]
        if IS_MASKED:
            v_ND = tl.load(kv + values_at + at_ND, is_there_ND, 0)
        elif DIM != D:
            v_ND = tl.load(kv + values_at + at_ND, (dims_D < DIM)[None, :], 0)
        else:
            v_ND = tl.load(kv + values_at + at_ND)
        v_ND = widened(v_ND, q_MD.dtype, IS_QUANTIZED)
        acc_MD = product(p_MN.to(q_MD.dtype), v_ND, acc_MD * rescale_M[:, None], IS_QUANTIZED)
        largest_M = larger_M
    return acc_MD, largest_M, weight_M


@triton.jit
def attend(
    q_MD,
    pages,
    scores,
    position,
    num_tokens,
    first_key,
    end_key,
    GROUP: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    IS_QUANTIZED: tl.constexpr,
    SLOTS: tl.constexpr,
    DIM: tl.constexpr,
    N: tl.constexpr,
):
    """acc_MD, m_M and l_M of a tile of tokens from `position` on, over keys first_key to end_key.

    pages: kv, scales, the tile's table, page stride, where the head's keys and values begin in a page; the same three
    of scales. scores: factor to base 2, softcap, factor inside its tanh, window. first_key is a multiple of N.
    """
    M: tl.constexpr = q_MD.shape[0]
    D: tl.constexpr = q_MD.shape[1]
    # Beyond the tile's tokens, queries of zeros see what the last one sees, so that nothing there is NaN.
    positions_M = position + tl.minimum(tl.arange(0, M) // GROUP, num_tokens - 1)
    first_seen = 0
    whole_low = first_key
    whole_high = tl.maximum(first_key, tl.minimum(end_key // N, (position + 1) // N) * N)
    acc_MD = tl.zeros([M, D], tl.float32)
    largest_M = tl.full([M], HIDDEN, tl.float32)
    weight_M = tl.zeros([M], tl.float32)
    state = acc_MD, largest_M, weight_M
    if HAS_WINDOW:
        window = scores[3]
        first_seen = tl.maximum(position - window + 1, 0)
        seen_by_all = tl.cdiv(tl.maximum(position + num_tokens - window, 0), N) * N
        whole_low = tl.minimum(tl.maximum(seen_by_all, first_key), whole_high)
        state = walk(
            state, q_MD, positions_M, pages, scores, first_key, whole_low, first_seen,
            True, HAS_WINDOW, HAS_SOFTCAP, IS_QUANTIZED, SLOTS, DIM, D, N,
        )  # fmt: skip
    state = walk(
        state, q_MD, positions_M, pages, scores, whole_low, whole_high, first_seen,
        False, HAS_WINDOW, HAS_SOFTCAP, IS_QUANTIZED, SLOTS, DIM, D, N,
    )  # fmt: skip
    return walk(
        state, q_MD, positions_M, pages, scores, whole_high, end_key, first_seen,
        True, HAS_WINDOW, HAS_SOFTCAP, IS_QUANTIZED, SLOTS, DIM, D, N,
    )  # fmt: skip


@triton.jit
def page_places(layer, head, num_kv_heads, CHUNK: tl.constexpr):
    """Where a head's keys and values of a layer begin in a page. Below 2^31: the host asserts it."""
    keys_at = (layer * 2 * num_kv_heads + head) * CHUNK
    return keys_at, keys_at + num_kv_heads * CHUNK
