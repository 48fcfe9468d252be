"""Join the spans of a context that were attended apart.

    out = sum_s 2^(m_s - m) acc_s / sum_s 2^(m_s - m) l_s        m = max_s m_s, s in rising order

Every m_s is a whole number, so each factor is a power of two and scaling rounds nothing: the result is the same, bit
for bit, as if one program had walked the spans one after the other. Bound by bytes, and small beside the attention: one
fp32 vector is read per query and span. Grid: (query tiles, key-value heads, queries of a tile); a tile that was
attended in one span wrote its output itself.

Legend: J query tiles, W spans of all tiles, K key-value heads, U queries of a tile that are in use, D head dim, T
tokens, H query heads, G = H/K.
"""

import triton
import triton.language as tl
from torch import Tensor

from kernels.gpu.attention_tile import power_of_two
from kernels.gpu.specimen import Specimen

STEP = 8
"""Spans whose vectors are under way at once: a program has nothing else to hide a load's latency behind."""


@triton.jit(do_not_specialize=["num_kv_heads", "num_used"])
def merge_kernel(
    out_THD,
    sums_WKUD,
    stats_WKU2,
    tiles_J6,
    num_kv_heads,
    num_used,
    GROUP: tl.constexpr,
    DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    STEP: tl.constexpr,
):
    tile, head, query = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    facts = tiles_J6 + tile * 6
    first_token = tl.load(facts + 1)
    num_tokens = tl.load(facts + 2)
    first_span = tl.load(facts + 4)
    num_spans = tl.load(facts + 5)
    if (num_spans == 1) | (query >= num_tokens * GROUP):
        return
    own = (first_span.to(tl.int64) * num_kv_heads + head) * num_used + query
    per_span = num_kv_heads * num_used

    largest = float("-inf")
    for first in range(0, num_spans, 64):
        spans_S = first + tl.arange(0, 64)
        largest_S = tl.load(stats_WKU2 + (own + spans_S * per_span) * 2, spans_S < num_spans, float("-inf"))
        largest = tl.maximum(largest, tl.max(largest_S, axis=0))

    dims_D = tl.arange(0, PADDED_DIM)
    sum_D = tl.zeros([PADDED_DIM], tl.float32)
    weight = 0.0
    for first in range(0, num_spans, STEP):
        for ahead in tl.static_range(STEP):
            span = first + ahead
            at = own + span * per_span
            is_there = span < num_spans
            factor = power_of_two(tl.load(stats_WKU2 + at * 2, is_there, float("-inf")) - largest)
            weight += factor * tl.load(stats_WKU2 + at * 2 + 1, is_there, 0.0)
            sum_D += factor * tl.load(sums_WKUD + at * DIM + dims_D, dims_D < tl.where(is_there, DIM, 0), 0.0)
    place = ((first_token + query // GROUP).to(tl.int64) * num_kv_heads + head) * GROUP + query % GROUP
    tl.store(out_THD + place * DIM + dims_D, (sum_D / weight).to(out_THD.dtype.element_ty), dims_D < DIM)


def merge_spans(out_THD: Tensor, sums_WKUD: Tensor, stats_WKU2: Tensor, tiles_J6: Tensor, *, group: int) -> None:
    """Write the queries of tiles with several spans. All contiguous.

    tiles_J6 is a SplitPlan's. Stats are the largest score, rounded up to a whole number, and the sum of weights.
    """
    _, num_kv_heads, num_used, head_dim = sums_WKUD.shape
    merge_kernel[(tiles_J6.shape[0], num_kv_heads, num_used)](
        out_THD,
        sums_WKUD,
        stats_WKU2,
        tiles_J6,
        num_kv_heads,
        num_used,
        GROUP=group,
        DIM=head_dim,
        PADDED_DIM=triton.next_power_of_2(head_dim),
        STEP=STEP,
        num_warps=1,
        enable_fp_fusion=False,
    )


SPECIMENS = tuple(
    Specimen(
        kernel=merge_kernel,
        label=f"d{dim}",
        types={
            "out_THD": "*bf16",
            "sums_WKUD": "*fp32",
            "stats_WKU2": "*fp32",
            "tiles_J6": "*i32",
            "num_kv_heads": "i32",
            "num_used": "i32",
        },
        constants={"GROUP": 4, "DIM": dim, "PADDED_DIM": triton.next_power_of_2(dim), "STEP": STEP},
        num_warps=1,
        has_fused_products=False,
    )
    for dim in (80, 128)
)
