"""Attention of rows of few tokens over pages, split along their keys: decode, and the tokens that speculation verifies.

    kernels/attention_form has the score; kernels/gpu/attention_tile how sums are kept; attention_merge joins the spans

Bound by bytes: every key and value is read once for all query heads that share it, 2 K D numbers per token of context.
Grid: persistent. Work item (span, key-value head) w of all is done by program w modulo the grid's size, so that
contexts of 1 and of 128k tokens share a launch without idle programs, and a CUDA graph may replay it for any lengths. A
span is a fixed number of keys at absolute positions: a row's bits depend on nobody else in the batch.

Legend: T tokens, H query heads, K key-value heads, G = H/K, D head dim, P pages, L layers, 2 key and value, S slots per
page, J query tiles, W spans, M queries of a tile, U of them in use at most.
"""

import triton
import triton.language as tl

from kernels.gpu.attention_tile import attend, load_queries, page_places


@triton.jit(do_not_specialize=["layer", "num_kv_heads", "window", "q_stride", "num_used"])
def decode_kernel(
    out_THD,
    sums_WKUD,
    stats_WKU2,
    q_THD,
    kv,
    scales,
    tables_X,
    tiles_J6,
    spans_W2,
    total_1,
    q_stride,
    page_stride,
    scale_page_stride,
    layer,
    num_kv_heads,
    factor,
    softcap,
    softcap_factor,
    window,
    num_used,
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
    for work in range(tl.program_id(0), tl.load(total_1) * num_kv_heads, tl.num_programs(0)):
        span, head = work // num_kv_heads, work % num_kv_heads
        tile = tl.load(spans_W2 + span * 2)
        number = tl.load(spans_W2 + span * 2 + 1)
        facts = tiles_J6 + tile * 6
        table = tables_X + tl.load(facts)
        first_token = tl.load(facts + 1)
        num_tokens = tl.load(facts + 2)
        position = tl.load(facts + 3)
        num_spans = tl.load(facts + 5)

        keys_at, values_at = page_places(layer, head, num_kv_heads, CHUNK)
        key_scales_at = keys_at // 4 + SLOTS * DIM // 4
        value_scales_at = values_at // 4 + SLOTS * DIM // 4
        pages = kv, scales, table, page_stride, keys_at, values_at, scale_page_stride, key_scales_at, value_scales_at
        scores = factor, softcap, softcap_factor, window
        first_key = number * SPAN
        if HAS_WINDOW:
            first_key = tl.maximum(first_key, tl.maximum(position - window + 1, 0) // N * N)
        end_key = tl.minimum(number * SPAN + SPAN, position + num_tokens)
        q_MD = load_queries(q_THD, q_stride, first_token, num_tokens, head, GROUP, M, DIM, D)
        acc_MD, largest_M, weight_M = attend(
            q_MD, pages, scores, position, num_tokens, first_key, end_key,
            GROUP, HAS_WINDOW, HAS_SOFTCAP, IS_QUANTIZED, SLOTS, DIM, N,
        )  # fmt: skip

        queries_M = tl.arange(0, M)
        dims_D = tl.arange(0, D)
        is_there_M = queries_M < num_tokens * GROUP
        is_there_MD = is_there_M[:, None] & (dims_D < DIM)[None, :]
        if num_spans == 1:
            tokens_M = (first_token + queries_M // GROUP).to(tl.int64)
            at_M = ((tokens_M * num_kv_heads + head) * GROUP + queries_M % GROUP) * DIM
            out_MD = (acc_MD / weight_M[:, None]).to(out_THD.dtype.element_ty)
            tl.store(out_THD + at_M[:, None] + dims_D[None, :], out_MD, is_there_MD)
        else:
            at_M = (span.to(tl.int64) * num_kv_heads + head) * num_used + queries_M
            tl.store(sums_WKUD + at_M[:, None] * DIM + dims_D[None, :], acc_MD, is_there_MD)
            tl.store(stats_WKU2 + at_M * 2, largest_M, is_there_M)
            tl.store(stats_WKU2 + at_M * 2 + 1, weight_M, is_there_M)
