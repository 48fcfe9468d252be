"""A step's rows as the tensors of one forward pass.

Legend: T tokens, R rows that draw, P pages, L layers, 2 key and value, K key-value heads, S slots per page, D head dim.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from common.core.step import StepRow
from common.engine.following import Following
from common.engine.host_copy import to_device
from common.model.ragged import RaggedTokens
from kernels.attention import attention_rows


def in_forward_order(rows: Sequence[StepRow]) -> list[int]:
    """Indexes of `rows` as a forward wants them: rows of one token first, by length, then the others as they came."""
    decodes = [index for index, row in enumerate(rows) if len(row.tokens) == 1]
    extends = [index for index, row in enumerate(rows) if len(row.tokens) != 1]
    return sorted(decodes, key=lambda index: rows[index].end) + extends


def ragged_tokens(rows: Sequence[StepRow], kv_PL2KSD: Tensor, follow: Following | None = None) -> RaggedTokens:
    """Tensors for rows in forward order. A page table may be longer than its context, never shorter.

    `follow` has the tokens of rows that follow others.

    Raises IndexError or ValueError for a row that names no token, or a page that does not exist.
    """
    device, page_size = kv_PL2KSD.device, kv_PL2KSD.shape[4]
    tokens: list[int] = []
    positions: list[int] = []
    pages: list[int] = []
    wanted: list[int] = []
    for row in rows:
        if not row.tokens:
            raise ValueError(f"{row.sequence}: a row without tokens")
        own = range(row.start, row.end)
        tokens += row.tokens
        positions += own
        pages += [row.pages[position // page_size] for position in own]
        first = len(tokens) - len(row.tokens)
        wanted += range(first, first + len(row.targets))
        if row.samples:
            wanted.append(len(tokens) - 1)
    tokens_T = to_device(torch.tensor(tokens), device)
    if follow is not None:
        follow.write(tokens_T)
    return RaggedTokens(
        tokens_T=tokens_T,
        positions_T=to_device(torch.tensor(positions), device),
        pages_T=to_device(torch.tensor(pages), device),
        rows=attention_rows(
            [row.pages for row in rows], [row.start for row in rows], [len(row.tokens) for row in rows], kv_PL2KSD
        ),
        wanted_R=to_device(torch.tensor(wanted, dtype=torch.int64), device),
        num_positions=max(row.end for row in rows),
        ids=range(min(tokens), max(tokens) + 1),
    )
