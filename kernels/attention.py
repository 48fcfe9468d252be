"""Attention of new tokens over pages: rows of one token (decode) or several (extend), each over its own context.

    out[t] = softmax(score) v        over positions up to the token's own; kernels/attention_form has the score

Bound by bytes of the contexts where a row is one token, by FLOPs where it is many. Legend: T tokens of all rows, H
query heads, K key-value heads, D head dim, P pages, L layers, 2 key and value, S slots per page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor

from kernels import dispatch
from kernels.attention_decode import DecodeGroup, attention_decode, decode_groups
from kernels.attention_extend import ExtendRow, attention_extend, extend_row
from kernels.attention_form import AttentionForm
from kernels.cpu import native_attention
from kernels.cpu.gather import Workspace
from kernels.cpu.native_attention import NativeRows
from kernels.dispatch import Backend, backend, native
from kernels.paged_rows import PagedRows, can_be_paged, paged_rows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TorchRows:
    """Rows for torch's operators: the leading `num_decodes` rows of one token in groups, then the others."""

    num_decodes: int
    decode_groups: tuple[DecodeGroup, ...]
    extends: tuple[ExtendRow, ...]


AttentionRows = NativeRows | PagedRows | TorchRows
"""The rows of one forward pass, prepared once for all layers."""


def attention_rows(
    tables: Sequence[Sequence[int]],
    starts: Sequence[int],
    counts: Sequence[int],
    kv_PL2KSD: Tensor,
    *,
    is_exact: bool | None = None,
) -> AttentionRows:
    """Rows of `counts` new tokens from position `starts` on. Those of one token are fastest first, sorted by length. A
    table may be longer than its context. `is_exact` asks a GPU for what a CPU promises anyway, below; None: as the
    process was told.

    Raises IndexError for a page that does not exist, or a table too short for its context.
    """
    where = backend(kv_PL2KSD)
    if where is Backend.TRITON and can_be_paged(kv_PL2KSD):
        wants_exact = dispatch.is_exact() if is_exact is None else is_exact
        return paged_rows(tables, starts, counts, kv_PL2KSD, is_exact=wants_exact)
    library = native() if where is Backend.CPU else None
    if library is not None and native_attention.can_attend(kv_PL2KSD):
        return native_attention.native_rows(library, tables, starts, counts, kv_PL2KSD)
    num_decodes = sum(1 for _ in takewhile(lambda count: count == 1, counts))
    lengths = [start + 1 for start in starts[:num_decodes]]
    return TorchRows(
        num_decodes=num_decodes,
        decode_groups=tuple(decode_groups(tables[:num_decodes], lengths, kv_PL2KSD)),
        extends=tuple(
            extend_row(table, start, count, kv_PL2KSD)
            for table, start, count in zip(
                tables[num_decodes:], starts[num_decodes:], counts[num_decodes:], strict=True
            )
        ),
    )


def attention(
    q_THD: Tensor, kv_PL2KSD: Tensor, layer: int, rows: AttentionRows, workspace: Workspace, form: AttentionForm
) -> Tensor:
    """(T, H, D), contiguous. The tokens of all rows end to end; their own KV is stored already.

    A token's result does not depend on the tokens beside it, on how its context was cut into rows, or on the number of
    threads, bit for bit: in every type with native operators, in fp32 without them. On a GPU: kernels/gpu/attention.
    """
    if isinstance(rows, PagedRows):
        from kernels.gpu.attention import attend

        return attend(q_THD, kv_PL2KSD, layer, rows, form)
    if isinstance(rows, NativeRows):
        return native_attention.attend(q_THD, kv_PL2KSD, layer, rows, form)
    outs = []
    if rows.num_decodes:
        q_BHD = q_THD[: rows.num_decodes]
        outs.append(attention_decode(q_BHD, kv_PL2KSD, layer, rows.decode_groups, workspace, form))
    first = rows.num_decodes
    for row in rows.extends:
        outs.append(attention_extend(q_THD[first : first + row.num_tokens], kv_PL2KSD, layer, row, workspace, form))
        first += row.num_tokens
    return outs[0] if len(outs) == 1 else torch.cat(outs)
