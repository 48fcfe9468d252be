"""Causal attention of many new tokens over pages, those of their own context before them included.

    kernels/attention_form has the score; kernels/gpu/attention_tile how sums are kept

Bound by FLOPs: 4 D per query and key it sees. A tile packs the G query heads of one key head beside their tokens, so a
tile of 128 queries reads each key once for 128 / G tokens. Grid: (tiles x key-value heads), heads fastest, tiles that
see the most keys first: the end of the launch is filled with small ones. New tokens are in their pages already, so old
and new context are read alike, and a prompt's bits do not depend on how it was cut into chunks.

Exact mode (SPAN > 0): sums are closed every SPAN keys and joined in order, as decode joins its spans; then a token also
has the bits that decode gives it. It costs a second accumulator in registers.

Legend: T tokens, H query heads, K key-value heads, G = H/K, D head dim, P pages, L layers, 2 key and value, S slots per
page, J query tiles, M queries of a tile, N keys of a tile.
"""

import triton
import triton.language as tl

from kernels.gpu.attention_tile import HIDDEN, attend, finite, load_queries, page_places, power_of_two


@triton.jit(do_not_specialize=["layer", "num_kv_heads", "window", "q_stride"])
def extend_kernel(
    out_THD,
    q_THD,
    kv,
    scales,
    tables_X,
    tiles_J6,
    q_stride,
    page_stride,
    scale_page_stride,
    layer,
    num_kv_heads,
    factor,
    softcap,
    softcap_factor,
    window,
    GROUP: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    IS_QUANTIZED: tl.constexpr,
    SLOTS: tl.constexpr,
    DIM: tl.constexpr,
    SPAN: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
    D: tl.constexpr,
):
    CHUNK: tl.constexpr = SLOTS * (DIM + 4 * IS_QUANTIZED)
    tile, head = tl.program_id(0) // num_kv_heads, tl.program_id(0) % num_kv_heads
    facts = tiles_J6 + tile * 6
    table = tables_X + tl.load(facts)
    first_token = tl.load(facts + 1)
    num_tokens = tl.load(facts + 2)
    position = tl.load(facts + 3)

    keys_at, values_at = page_places(layer, head, num_kv_heads, CHUNK)
    key_scales_at = keys_at // 4 + SLOTS * DIM // 4
    value_scales_at = values_at // 4 + SLOTS * DIM // 4
    pages = kv, scales, table, page_stride, keys_at, values_at, scale_page_stride, key_scales_at, value_scales_at
    scores = factor, softcap, softcap_factor, window
    q_MD = load_queries(q_THD, q_stride, first_token, num_tokens, head, GROUP, M, DIM, D)
    first_key = 0
    if HAS_WINDOW:
        first_key = tl.maximum(position - window + 1, 0) // N * N
    end_key = position + num_tokens
    if SPAN == 0:
        acc_MD, largest_M, weight_M = attend(
            q_MD, pages, scores, position, num_tokens, first_key, end_key,
            GROUP, HAS_WINDOW, HAS_SOFTCAP, IS_QUANTIZED, SLOTS, DIM, N,
        )  # fmt: skip
    else:
        acc_MD = tl.zeros([M, D], tl.float32)
        largest_M = tl.full([M], HIDDEN, tl.float32)
        weight_M = tl.zeros([M], tl.float32)
        for number in range(first_key // SPAN, tl.cdiv(end_key, SPAN)):
            span_MD, top_M, share_M = attend(
                q_MD, pages, scores, position, num_tokens,
                tl.maximum(first_key, number * SPAN), tl.minimum(end_key, number * SPAN + SPAN),
                GROUP, HAS_WINDOW, HAS_SOFTCAP, IS_QUANTIZED, SLOTS, DIM, N,
            )  # fmt: skip
            larger_M = tl.maximum(largest_M, top_M)
            old_M, new_M = power_of_two(largest_M - finite(larger_M)), power_of_two(top_M - finite(larger_M))
            acc_MD = acc_MD * old_M[:, None] + span_MD * new_M[:, None]
            weight_M = weight_M * old_M + share_M * new_M
            largest_M = larger_M

    queries_M = tl.arange(0, M)
    dims_D = tl.arange(0, D)
    tokens_M = (first_token + queries_M // GROUP).to(tl.int64)
    at_M = ((tokens_M * num_kv_heads + head) * GROUP + queries_M % GROUP) * DIM
    is_there_MD = (queries_M < num_tokens * GROUP)[:, None] & (dims_D < DIM)[None, :]
    out_MD = (acc_MD / weight_M[:, None]).to(out_THD.dtype.element_ty)
    tl.store(out_THD + at_M[:, None] + dims_D[None, :], out_MD, is_there_MD)
