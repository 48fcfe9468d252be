"""Copy contexts out of their pages into one reused buffer, so that attention reads them contiguously.

Legend: B rows, N pages per row, M context padded to key tiles, P pages, L layers, 2 key and value, K key-value heads,
S slots per page, D head dim.
"""

import torch
from torch import Tensor

from kernels.paged_context import PagedContext
from kernels.quantized_pages import channels, dequantized, is_quantized


class Workspace:
    """A buffer that grows to the largest gather and is reused: fresh memory costs five times the copy itself.

    Writer: the one thread that runs steps. A gathered view is valid until the next gather.
    """

    def __init__(self) -> None:
        self._buffer: Tensor | None = None

    def take(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """A contiguous view with undefined content."""
        size = 1
        for extent in shape:
            size *= extent
        buffer = self._buffer
        if buffer is None or buffer.numel() < size or buffer.dtype is not like.dtype:
            self._buffer = buffer = torch.empty(size, dtype=like.dtype, device=like.device)
        return buffer[:size].view(shape)


def gather(
    kv_PL2KSD: Tensor, layer: int, context: PagedContext, workspace: Workspace, like: Tensor
) -> tuple[Tensor, Tensor]:
    """Keys and values as (B, K, M, D), in the type of `like` where pages are quantized, else in their own.

    They are zero from each row's length on: unused slots may hold anything, NaN included.
    """
    _, _, _, num_heads, num_slots, _ = kv_PL2KSD.shape
    num_rows, num_columns = context.tables_BN.shape
    is_wide = is_quantized(kv_PL2KSD)
    head_dim = channels(kv_PL2KSD)
    kv_2BKMD = workspace.take(
        (2, num_rows, num_heads, num_columns * num_slots, head_dim), like if is_wide else kv_PL2KSD
    )
    pages_XE = kv_PL2KSD.view(-1, num_slots * kv_PL2KSD.shape[-1])
    chunks_X = context.chunks_X + layer * 2 * num_heads
    if is_wide:
        kv_2BKMD.view(-1, num_slots, head_dim).copy_(dequantized(pages_XE[chunks_X], num_slots))
    else:
        torch.index_select(pages_XE, 0, chunks_X, out=kv_2BKMD.view(-1, num_slots * head_dim))
    for row, length in enumerate(context.lengths):
        kv_2BKMD[:, row, :, length:] = 0
    padded = context.padded_length
    return kv_2BKMD[0, :, :, :padded], kv_2BKMD[1, :, :, :padded]
