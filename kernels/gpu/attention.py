"""Attention over pages on a GPU: rows of few tokens to attention_decode, the others to attention_extend.

Promised: a token has the same bits alone and in any batch, and for every cut of its prompt into chunks of more than
paged_rows.FEW_TOKENS tokens. In exact mode (`PagedRows.is_exact`) for every cut, so that prefill, decode and a
recompute agree: both kernels then use the same products and join the same spans. On one device class, one type, one
version of triton and one tuned table; not across them.

Legend: T tokens, H query heads, K key-value heads, D head dim, P pages, L layers, 2 key and value, S slots per page, E
elements of a vector with its scale.
"""

import torch
import triton
from torch import Tensor

from kernels.attention_form import AttentionForm
from kernels.gpu.attention_decode import decode_kernel
from kernels.gpu.attention_extend import extend_kernel
from kernels.gpu.attention_merge import merge_spans
from kernels.gpu.eight_bits import page_scales, page_words
from kernels.gpu.launch import device_of
from kernels.gpu.tuned import Chooser, Tiles, element_bytes_of, tiles
from kernels.paged_rows import Cut, ExtendPlan, PagedRows, SplitPlan
from kernels.quantized_pages import SCALE_BYTES, channels, is_quantized

LOG2_E = 1.4426950408889634
SMALLEST_DIM = 16
"""Below this, products of matrices have no instruction: channels are padded with zeros."""


def attend(
    q_THD: Tensor, kv_PL2KSE: Tensor, layer: int, rows: PagedRows, form: AttentionForm, choose: Chooser = tiles
) -> Tensor:
    """(T, H, D), contiguous. A token's heads lie end to end in `q_THD`; its tokens may be apart.

    `choose` names the tiles: the table, but where tiles are tried.
    """
    num_tokens, num_heads, head_dim = q_THD.shape
    num_kv_heads = kv_PL2KSE.shape[3]
    assert num_tokens == rows.num_tokens, f"{num_tokens} queries for {rows.num_tokens} tokens"
    assert head_dim == channels(kv_PL2KSE), f"queries of {head_dim} channels for keys of {channels(kv_PL2KSE)}"
    assert q_THD.stride()[1:] == (head_dim, 1), "a token's heads lie end to end"
    assert num_heads % num_kv_heads == 0, f"{num_heads} query heads for {num_kv_heads} key heads"
    assert kv_PL2KSE.is_contiguous()
    assert kv_PL2KSE[0].numel() < 2**31, "offsets inside a page fit 32 bits"
    assert form.scale > 0
    out_THD = torch.empty(q_THD.shape, dtype=q_THD.dtype, device=q_THD.device)
    device, group = device_of(q_THD.device), num_heads // num_kv_heads
    mode = "attention_exact" if rows.is_exact else "attention"
    shape = max(triton.next_power_of_2(head_dim), SMALLEST_DIM), element_bytes_of(q_THD, kv_PL2KSE)

    own = choose(f"{mode}_decode", device, *shape)
    cut = Cut(group=group, window=form.window, tile_queries=max(own.queries, group), span=own.span)
    if (split := rows.split(cut)) is not None:
        _decode(out_THD, q_THD, kv_PL2KSE, layer, rows.tables_X, split, form, own)
    own = choose(f"{mode}_extend", device, *shape)
    cut = Cut(group=group, window=form.window, tile_queries=max(own.queries, group), span=0)
    if (extend := rows.extend(cut)) is not None:
        _extend(out_THD, q_THD, kv_PL2KSE, layer, rows.tables_X, extend, form, own, is_exact=rows.is_exact)
    return out_THD


def _decode(
    out_THD: Tensor,
    q_THD: Tensor,
    kv_PL2KSE: Tensor,
    layer: int,
    tables_X: Tensor,
    plan: SplitPlan,
    form: AttentionForm,
    own: Tiles,
) -> None:
    num_heads, head_dim = q_THD.shape[1:]
    num_kv_heads, group = kv_PL2KSE.shape[3], num_heads // kv_PL2KSE.shape[3]
    num_spans = len(plan.spans_W2) if plan.is_joined else 1
    used = plan.tile_tokens * group
    sums_WKUD = torch.empty((num_spans, num_kv_heads, used, head_dim), dtype=torch.float32, device=q_THD.device)
    stats_WKU2 = torch.empty((num_spans, num_kv_heads, used, 2), dtype=torch.float32, device=q_THD.device)
    num_programs = min(len(plan.spans_W2) * num_kv_heads, device_of(q_THD.device).num_processors * own.programs)
    decode_kernel[(num_programs,)](
        out_THD,
        sums_WKUD,
        stats_WKU2,
        q_THD,
        page_words(kv_PL2KSE),
        page_scales(kv_PL2KSE),
        tables_X,
        plan.tiles_J6,
        plan.spans_W2,
        plan.total_1,
        *_numbers(q_THD, kv_PL2KSE, layer, form),
        used,
        SPAN=own.span,
        **_constants(q_THD, kv_PL2KSE, form, own),
    )
    if plan.is_joined:
        merge_spans(out_THD, sums_WKUD, stats_WKU2, plan.tiles_J6, group=group)


def _extend(
    out_THD: Tensor,
    q_THD: Tensor,
    kv_PL2KSE: Tensor,
    layer: int,
    tables_X: Tensor,
    plan: ExtendPlan,
    form: AttentionForm,
    own: Tiles,
    *,
    is_exact: bool,
) -> None:
    extend_kernel[(len(plan.tiles_J6) * kv_PL2KSE.shape[3],)](
        out_THD,
        q_THD,
        page_words(kv_PL2KSE),
        page_scales(kv_PL2KSE),
        tables_X,
        plan.tiles_J6,
        *_numbers(q_THD, kv_PL2KSE, layer, form),
        SPAN=own.span if is_exact else 0,
        **_constants(q_THD, kv_PL2KSE, form, own),
    )


def _numbers(q_THD: Tensor, kv_PL2KSE: Tensor, layer: int, form: AttentionForm) -> tuple[int | float, ...]:
    """Arguments of both kernels from q_stride to window."""
    page_stride, num_kv_heads = kv_PL2KSE.stride(0), kv_PL2KSE.shape[3]
    cap = form.softcap
    return (
        q_THD.stride(0),
        page_stride,
        page_stride // SCALE_BYTES,
        layer,
        num_kv_heads,
        (form.scale if cap is None else 1.0) * LOG2_E,
        cap or 0.0,
        0.0 if cap is None else 2.0 * LOG2_E * form.scale / cap,
        form.window or 0,
    )


def _constants(q_THD: Tensor, kv_PL2KSE: Tensor, form: AttentionForm, own: Tiles) -> dict[str, int | bool]:
    """What both kernels are compiled for."""
    num_heads, head_dim = q_THD.shape[1:]
    group = num_heads // kv_PL2KSE.shape[3]
    return {
        "GROUP": group,
        "HAS_WINDOW": form.window is not None,
        "HAS_SOFTCAP": form.softcap is not None,
        "IS_QUANTIZED": is_quantized(kv_PL2KSE),
        "SLOTS": kv_PL2KSE.shape[4],
        "DIM": head_dim,
        "M": max(own.queries, triton.next_power_of_2(group)),
        "N": own.keys,
        "D": max(triton.next_power_of_2(head_dim), SMALLEST_DIM),
        "num_warps": own.num_warps,
        "num_stages": own.num_stages,
        "enable_fp_fusion": False,
    }
