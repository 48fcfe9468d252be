"""Where the contexts of a few rows lie in the pages, prepared once per step for all layers.

Legend: B rows, N pages per row, P pages, L layers, 2 key and value, K key-value heads, S slots per page, D head dim.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.quantized_pages import is_quantized

KEY_TILE = 512
"""Contexts are read padded to a multiple of this: it is the key block of torch's CPU attention, and only whole blocks
give a row the same bits whatever the length of the rows beside it. See kernels/cpu."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PagedContext:
    """Page tables of rows that are attended together, padded to one length.

    `tables_BN` is filled up with each row's first page: those slots are masked. `chunks_X` names, for layer 0, every
    (key or value, row, head, page) chunk of S x D elements, in that order.
    """

    tables_BN: Tensor
    lengths: tuple[int, ...]
    chunks_X: Tensor

    @property
    def padded_length(self) -> int:
        return pad_length(max(self.lengths))


def pad_length(length: int) -> int:
    """`length` rounded up to whole key tiles."""
    return -(-length // KEY_TILE) * KEY_TILE


def mask_type(kv_PL2KSD: Tensor) -> torch.dtype:
    """What masks are made in: the type of the pages, which is that of the queries unless pages are quantized."""
    return torch.float32 if is_quantized(kv_PL2KSD) else kv_PL2KSD.dtype


def paged_context(tables: Sequence[Sequence[int]], lengths: Sequence[int], kv_PL2KSD: Tensor) -> PagedContext:
    """Prepare rows with the given page tables and context lengths, new tokens included.

    Raises IndexError for a page that does not exist, or a table too short for its length.
    """
    num_pages, num_layers, _, num_heads, num_slots, _ = kv_PL2KSD.shape
    for table, length in zip(tables, lengths, strict=True):
        if len(table) * num_slots < length or min(table) < 0 or max(table) >= num_pages:
            raise IndexError(f"pages {min(table)} to {max(table)} of {num_pages} for a context of {length} tokens")
    num_columns = -(-pad_length(max(lengths)) // num_slots)
    tables_BN = torch.tensor(
        [[*table[:num_columns], *[table[0]] * (num_columns - len(table))] for table in tables], device=kv_PL2KSD.device
    )
    parts_2111 = torch.arange(2, device=tables_BN.device)[:, None, None, None]
    heads_K1 = torch.arange(num_heads, device=tables_BN.device)[:, None]
    chunks_2BKN = (tables_BN[:, None] * num_layers * 2 + parts_2111) * num_heads + heads_K1
    return PagedContext(tables_BN=tables_BN, lengths=tuple(lengths), chunks_X=chunks_2BKN.reshape(-1))
