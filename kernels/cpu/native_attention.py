"""Native attention over pages: how rows and tensors are handed to it. native/attention.cpp says how it is exact.

Legend: T tokens, H query heads, K key-value heads, D head dim, P pages, L layers, 2 key and value, S slots per page,
R rows, X entries of all page tables.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import torch
from torch import Tensor

from kernels.attention_form import AttentionForm
from kernels.cpu.library import Native
from kernels.quantized_pages import channels
from kernels.ragged_tables import ragged_tables

KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.int8: 3, torch.float8_e4m3fn: 4}
"""native/attention.h, enum Kind."""

DIM_MULTIPLE = 8
MAX_DIM = 512


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NativeRows:
    """rows_R4: first token, number of tokens, position of the first, first entry in tables_X (int32)."""

    native: Native
    num_tokens: int
    rows_R4: Tensor
    tables_X: Tensor


def can_attend(kv_PL2KSD: Tensor) -> bool:
    """Whether pages of this kind can be read where they lie."""
    head_dim = channels(kv_PL2KSD)
    is_fitting = head_dim % DIM_MULTIPLE == 0 and head_dim <= MAX_DIM
    return kv_PL2KSD.dtype in KINDS and is_fitting and kv_PL2KSD.is_contiguous()


def native_rows(
    native: Native,
    tables: Sequence[Sequence[int]],
    starts: Sequence[int],
    counts: Sequence[int],
    kv_PL2KSD: Tensor,
) -> NativeRows:
    """Rows in the form that native code reads. Raises IndexError as `attention_rows` does."""
    facts, entries = ragged_tables(tables, starts, counts, kv_PL2KSD)
    return NativeRows(
        native=native,
        num_tokens=sum(counts),
        rows_R4=torch.frombuffer(facts, dtype=torch.int64).view(-1, 4),
        tables_X=torch.frombuffer(entries, dtype=torch.int32),
    )


def attend(q_THD: Tensor, kv_PL2KSD: Tensor, layer: int, rows: NativeRows, form: AttentionForm) -> Tensor:
    """(T, H, D). A token's heads lie end to end in `q_THD`; its tokens may be apart."""
    num_tokens, num_heads, head_dim = q_THD.shape
    num_layers, _, num_kv_heads, num_slots, _ = kv_PL2KSD.shape[1:]
    kv_dim = channels(kv_PL2KSD)
    assert num_tokens == rows.num_tokens, f"{num_tokens} queries for {rows.num_tokens} tokens"
    assert head_dim == kv_dim, f"queries of {head_dim} channels for keys of {kv_dim}"
    assert q_THD.stride(1) == head_dim, "a token's heads lie end to end"
    assert q_THD.stride(2) == 1, "a head's channels lie end to end"
    out_THD = q_THD.new_empty(q_THD.shape)
    shape = _shape(
        KINDS[q_THD.dtype],
        KINDS[kv_PL2KSD.dtype],
        num_layers,
        num_kv_heads,
        num_slots,
        kv_dim,
        num_heads,
        len(rows.rows_R4),
    )
    refused = _function(rows.native)(
        out_THD.data_ptr(),
        q_THD.data_ptr(),
        q_THD.stride(0),
        kv_PL2KSD.data_ptr(),
        shape.buffer_info()[0],
        rows.rows_R4.data_ptr(),
        rows.tables_X.data_ptr(),
        layer,
        form.scale,
        form.window or 0,
        form.softcap or 0.0,
    )
    assert refused == 0, f"attention of {num_heads} heads of {head_dim} over {tuple(kv_PL2KSD.shape)}"
    return out_THD


@cache
def _function(native: Native) -> Callable[..., int]:
    return native.bind("baton_attention", "ppippppifif")


@lru_cache(maxsize=4096)
def _shape(*numbers: int) -> "array[int]":
    """What native code is told about tensors, as it reads it. Remembered: it changes with the number of rows only."""
    return array("q", numbers)
