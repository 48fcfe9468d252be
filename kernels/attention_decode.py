"""Attention of one new token per context, over pages.

    out = softmax(q k^T / sqrt(D)) v        over the context, the new token included

Bound by bytes of the contexts. Legend: B rows, H query heads, K key-value heads, G = H/K, D head dim, M padded context,
P pages, L layers, 2 key and value, S slots per page.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from kernels import reference
from kernels.cpu.gather import Workspace, gather
from kernels.dispatch import Backend, backend
from kernels.paged_context import PagedContext, pad_length, paged_context

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
        mask_BM = torch.zeros(is_beyond_BM.shape, dtype=kv_PL2KSD.dtype, device=kv_PL2KSD.device)
        mask_BM.masked_fill_(is_beyond_BM, float("-inf"))
        groups.append(DecodeGroup(first=first, context=context, mask_B11M=mask_BM[:, None, None]))
        first = end
    return groups


def attention_decode(
    q_BHD: Tensor, kv_PL2KSD: Tensor, layer: int, groups: Sequence[DecodeGroup], workspace: Workspace
) -> Tensor:
    """(B, H, D). Row i of `q_BHD` is row i of the batch given to `decode_groups`; its own KV is stored already."""
    if backend(q_BHD) is Backend.PLAIN:
        return torch.cat([_attend_plain(q_BHD, kv_PL2KSD, layer, group) for group in groups])
    return torch.cat([_attend_group(q_BHD, kv_PL2KSD, layer, group, workspace) for group in groups])


def _attend_group(q_BHD: Tensor, kv_PL2KSD: Tensor, layer: int, group: DecodeGroup, workspace: Workspace) -> Tensor:
    k_BKMD, v_BKMD = gather(kv_PL2KSD, layer, group.context, workspace)
    num_heads, head_dim = q_BHD.shape[1:]
    q_BKGD = q_BHD[group.first : group.first + group.num_rows].reshape(group.num_rows, k_BKMD.shape[1], -1, head_dim)
    num_shared = q_BKGD.shape[2]
    padded_BKGD = functional.pad(q_BKGD, (0, 0, 0, -num_shared % QUERY_MULTIPLE))
    out_BKGD = functional.scaled_dot_product_attention(padded_BKGD, k_BKMD, v_BKMD, attn_mask=group.mask_B11M)
    return out_BKGD[:, :, :num_shared].reshape(group.num_rows, num_heads, head_dim)


def _attend_plain(q_BHD: Tensor, kv_PL2KSD: Tensor, layer: int, group: DecodeGroup) -> Tensor:
    tables = group.context.tables_BN.tolist()
    rows = [
        reference.attention(q_BHD[row : row + 1], kv_PL2KSD, layer, tables[row - group.first], length - 1)
        for row, length in enumerate(group.context.lengths, start=group.first)
    ]
    return torch.cat(rows)
