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
from kernels.attention import AttentionRows, attention_rows
from kernels.wanted_rows import WantedRows, all_rows


def in_forward_order(rows: Sequence[StepRow]) -> list[int]:
    """Indexes of `rows` as a forward wants them: rows of one token first, by length, then the others as they came."""
    decodes = [index for index, row in enumerate(rows) if len(row.tokens) == 1]
    extends = [index for index, row in enumerate(rows) if len(row.tokens) != 1]
    return sorted(decodes, key=lambda index: rows[index].start) + extends


def ragged_tokens(rows: Sequence[StepRow], kv_PL2KSD: Tensor, follow: Following | None = None) -> RaggedTokens:
    """Tensors for rows in forward order. A page table may be longer than its context, never shorter.

    `follow` has the tokens of rows that follow others.

    Raises IndexError or ValueError for a row that names no token, or a page that does not exist.
    """
    device, page_size = kv_PL2KSD.device, kv_PL2KSD.shape[4]
    tokens: list[int] = []
    positions: list[int] = []
    pages: list[int] = []
    for row in rows:
        if not row.tokens:
            raise ValueError(f"{row.sequence}: a row without tokens")
        tokens += row.tokens
        if len(row.tokens) == 1:
            positions.append(row.start)
            pages.append(row.pages[row.start // page_size])
            continue
        own = range(row.start, row.end)
        positions += own
        pages += [row.pages[position // page_size] for position in own]
    tokens_T = to_device(torch.tensor(tokens), device)
    if follow is not None:
        follow.write(tokens_T)
    attended = attention_rows(
        [row.pages for row in rows], [row.start for row in rows], [len(row.tokens) for row in rows], kv_PL2KSD
    )
    return RaggedTokens(
        tokens_T=tokens_T,
        positions_T=to_device(torch.tensor(positions), device),
        pages_T=to_device(torch.tensor(pages), device),
        rows=attended,
        wanted=_wanted_rows(rows, attended, kv_PL2KSD),
        num_positions=max(row.end for row in rows),
        ids=range(min(tokens), max(tokens) + 1),
    )


def _wanted_rows(rows: Sequence[StepRow], attended: AttentionRows, kv_PL2KSD: Tensor) -> WantedRows:
    """Tokens whose logits somebody reads: those that targets follow, and the ends that rows draw from."""
    if all(len(row.tokens) == 1 and row.samples and not row.targets for row in rows):
        return all_rows(attended, len(rows), kv_PL2KSD.device)
    places: list[int] = []
    runs: list[tuple[StepRow, range]] = []
    first = 0
    for row in rows:
        count = len(row.tokens)
        for run in (range(len(row.targets)), range(count - 1, count) if row.samples else range(0)):
            if run:
                runs.append((row, run))
                places += range(first + run.start, first + run.stop)
        first += count
    if places == list(range(first)):
        return all_rows(attended, first, kv_PL2KSD.device)
    wanted = None
    if runs:
        tables = [row.pages for row, _ in runs]
        starts = [row.start + run.start for row, run in runs]
        wanted = attention_rows(tables, starts, [len(run) for _, run in runs], kv_PL2KSD)
    places_R = to_device(torch.tensor(places, dtype=torch.int64), kv_PL2KSD.device)
    return WantedRows(places_R=places_R, rows=wanted, is_all=False)
