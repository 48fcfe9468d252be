"""Attention of several new tokens of one context, over pages: causal, with the older context before them.

    out[t] = softmax(score) v        over positions 0 to start + t; kernels/attention_form has the score

Bound by FLOPs. Legend: T new tokens, H query heads, K key-value heads, D head dim, M padded context, P pages, L layers,
2 key and value, S slots per page.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from kernels import reference
from kernels.attention_form import AttentionForm
from kernels.cpu.capped import capped_attention
from kernels.cpu.gather import Workspace, gather
from kernels.dispatch import Backend, backend
from kernels.paged_context import PagedContext, mask_type, pad_length, paged_context

QUERY_TILE = 512  # Chosen: a later tile sees more keys, so smaller tiles skip more of the future but cost more calls.
QUERY_MULTIPLE = 4  # Measured: with fewer queries the products inside attention sum in another order.


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExtendRow:
    """One context with its new tokens from `start` on. `masks` hold 0 or -inf: (queries, keys) per query tile."""

    start: int
    num_tokens: int
    context: PagedContext
    masks: tuple[Tensor, ...]


def extend_row(table: Sequence[int], start: int, num_tokens: int, kv_PL2KSD: Tensor) -> ExtendRow:
    """Prepare `num_tokens` new tokens at positions start and after, once per step. Raises as `paged_context`."""
    context = paged_context([table], [start + num_tokens], kv_PL2KSD)
    masks = tuple(
        _causal_mask(start + first, min(QUERY_TILE, num_tokens - first), kv_PL2KSD)
        for first in range(0, num_tokens, QUERY_TILE)
    )
    return ExtendRow(start=start, num_tokens=num_tokens, context=context, masks=masks)


def attention_extend(
    q_THD: Tensor, kv_PL2KSD: Tensor, layer: int, row: ExtendRow, workspace: Workspace, form: AttentionForm
) -> Tensor:
    """(T, H, D). The new tokens' own KV is stored already."""
    if backend(q_THD) is Backend.PLAIN:
        return reference.attention(q_THD, kv_PL2KSD, layer, row.context.tables_BN[0].tolist(), row.start, form)
    k_1KMD, v_1KMD = gather(kv_PL2KSD, layer, row.context, workspace, q_THD)
    outs = []
    first = row.start
    for tile_THD, causal_TM in zip(torch.split(q_THD, QUERY_TILE), row.masks, strict=True):
        mask_TM = _windowed(causal_TM, first, tile_THD.shape[0], form).to(q_THD.dtype)
        num_queries, num_keys = mask_TM.shape
        q_1HTD = functional.pad(tile_THD.transpose(0, 1), (0, 0, 0, num_queries - tile_THD.shape[0]))[None]
        k_1KND, v_1KND = k_1KMD[:, :, :num_keys], v_1KMD[:, :, :num_keys]
        if form.softcap is None:
            out_1HTD = functional.scaled_dot_product_attention(
                q_1HTD, k_1KND, v_1KND, attn_mask=mask_TM, enable_gqa=True, scale=form.scale
            )
        else:
            out_1HTD = capped_attention(q_1HTD, k_1KND, v_1KND, mask_TM, scale=form.scale, softcap=form.softcap)
        outs.append(out_1HTD[0].transpose(0, 1)[: tile_THD.shape[0]])
        first += tile_THD.shape[0]
    return torch.cat(outs)


def _windowed(mask_TM: Tensor, start: int, num_queries: int, form: AttentionForm) -> Tensor:
    """The causal mask of queries at `start` and after, with the keys before each query's window hidden."""
    if form.window is None or start + num_queries <= form.window:
        return mask_TM
    positions_T1 = (start + torch.arange(mask_TM.shape[0], device=mask_TM.device)).clamp(max=start + num_queries - 1)
    keys_M = torch.arange(mask_TM.shape[1], device=mask_TM.device)
    return mask_TM.masked_fill(keys_M <= positions_T1[:, None] - form.window, float("-inf"))


def _causal_mask(start: int, num_queries: int, kv_PL2KSD: Tensor) -> Tensor:
    """mask_TM of queries at positions start and after, both axes padded; padding queries see what the last one sees."""
    num_keys = pad_length(start + num_queries)
    padded_queries = -(-num_queries // QUERY_MULTIPLE) * QUERY_MULTIPLE
    device = kv_PL2KSD.device
    positions_T = torch.arange(start, start + padded_queries, device=device).clamp(max=start + num_queries - 1)
    mask_TM = torch.zeros(padded_queries, num_keys, dtype=mask_type(kv_PL2KSD), device=device)
    return mask_TM.masked_fill_(torch.arange(num_keys, device=device) > positions_T[:, None], float("-inf"))
