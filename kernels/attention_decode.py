"""Attention of one new token per context, over pages.

    out = softmax(score) v        over the context, the new token included; kernels/attention_form has the score

Bound by bytes of the contexts. Legend: B rows, H query heads, K key-value heads, G = H/K, D head dim, M padded context,
P pages, L layers, 2 key and value, S slots per page.
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

QUERY_MULTIPLE = 4  # Measured: with fewer query rows per key head the products inside attention sum in another order.
GROUP_BYTES = 4 * 2**20  # Chosen: gathered keys and values of a group stay in the processor's caches.


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecodeGroup:
    """Rows first to first + B of a decode batch, attended together. `mask_B11M` is 0 or -inf."""

    first: int
    context: PagedContext
    mask_B11M: Tensor

    @property
    def num_rows(self) -> int:
        return len(self.context.lengths)


def decode_groups(tables: Sequence[Sequence[int]], lengths: Sequence[int], kv_PL2KSD: Tensor) -> list[DecodeGroup]:
    """Cut a decode batch into groups of one padded length and bounded size. Rows sorted by length make few groups."""
    _, _, _, num_heads, _, head_dim = kv_PL2KSD.shape
    groups: list[DecodeGroup] = []
    first = 0
    while first < len(lengths):
        padded = pad_length(lengths[first])
        limit = max(1, GROUP_BYTES // (2 * num_heads * head_dim * padded * kv_PL2KSD.element_size()))
        end = first + 1
        while end < len(lengths) and end - first < limit and pad_length(lengths[end]) == padded:
            end += 1
        context = paged_context(tables[first:end], lengths[first:end], kv_PL2KSD)
        lengths_B1 = torch.tensor(lengths[first:end], device=kv_PL2KSD.device)[:, None]
        is_beyond_BM = torch.arange(padded, device=kv_PL2KSD.device) >= lengths_B1
        mask_BM = torch.zeros(is_beyond_BM.shape, dtype=mask_type(kv_PL2KSD), device=kv_PL2KSD.device)
        mask_BM.masked_fill_(is_beyond_BM, float("-inf"))
        groups.append(DecodeGroup(first=first, context=context, mask_B11M=mask_BM[:, None, None]))
        first = end
    return groups


def attention_decode(
    q_BHD: Tensor,
    kv_PL2KSD: Tensor,
    layer: int,
    groups: Sequence[DecodeGroup],
    workspace: Workspace,
    form: AttentionForm,
) -> Tensor:
    """(B, H, D). Row i of `q_BHD` is row i of the batch given to `decode_groups`; its own KV is stored already."""
    if backend(q_BHD) is Backend.PLAIN:
        return torch.cat([_attend_plain(q_BHD, kv_PL2KSD, layer, group, form) for group in groups])
    return torch.cat([_attend_group(q_BHD, kv_PL2KSD, layer, group, workspace, form) for group in groups])


def _attend_group(
    q_BHD: Tensor, kv_PL2KSD: Tensor, layer: int, group: DecodeGroup, workspace: Workspace, form: AttentionForm
) -> Tensor:
    k_BKMD, v_BKMD = gather(kv_PL2KSD, layer, group.context, workspace, q_BHD)
    num_heads, head_dim = q_BHD.shape[1:]
    q_BKGD = q_BHD[group.first : group.first + group.num_rows].reshape(group.num_rows, k_BKMD.shape[1], -1, head_dim)
    num_shared = q_BKGD.shape[2]
    padded_BKGD = functional.pad(q_BKGD, (0, 0, 0, -num_shared % QUERY_MULTIPLE))
    mask_B11M = _windowed(group, form).to(q_BHD.dtype)
    if form.softcap is None:
        out_BKGD = functional.scaled_dot_product_attention(
            padded_BKGD, k_BKMD, v_BKMD, attn_mask=mask_B11M, scale=form.scale
        )
    else:
        out_BKGD = capped_attention(padded_BKGD, k_BKMD, v_BKMD, mask_B11M, scale=form.scale, softcap=form.softcap)
    return out_BKGD[:, :, :num_shared].reshape(group.num_rows, num_heads, head_dim)


def _windowed(group: DecodeGroup, form: AttentionForm) -> Tensor:
    """The group's mask, with the keys before each row's window hidden."""
    if form.window is None or max(group.context.lengths) <= form.window:
        return group.mask_B11M
    keys_M = torch.arange(group.mask_B11M.shape[-1], device=group.mask_B11M.device)
    first_B1 = torch.tensor(group.context.lengths, device=keys_M.device)[:, None] - form.window
    return group.mask_B11M.masked_fill((keys_M < first_B1)[:, None, None], float("-inf"))


def _attend_plain(q_BHD: Tensor, kv_PL2KSD: Tensor, layer: int, group: DecodeGroup, form: AttentionForm) -> Tensor:
    tables = group.context.tables_BN.tolist()
    rows = [
        reference.attention(q_BHD[row : row + 1], kv_PL2KSD, layer, tables[row - group.first], length - 1, form)
        for row, length in enumerate(group.context.lengths, start=group.first)
    ]
    return torch.cat(rows)
