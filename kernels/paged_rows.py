"""The rows of one forward pass as a GPU reads them: page tables, and how their attention is cut into programs.

A row of few tokens (a decoded one, or several to verify) is cut along its keys into spans that programs attend
apart; a longer row is cut along its tokens. Spans lie at absolute positions, so how a row is cut depends on that row
alone. Plans are made once per step, group size and window, on the host, and travel in one copy each.

Legend: R rows, X entries of all page tables, J tiles of queries, W spans of all tiles.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kernels.quantized_pages import channels
from kernels.ragged_tables import ragged_tables

FEW_TOKENS = 16
"""Up to this many, a row is split along its keys. Chosen: with more there are tiles enough to fill a GPU, but for one
short row over a long context."""

LARGEST_DIM = 256
"""Channels of a head that a tile of keys holds in shared memory."""

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.int8, torch.float8_e4m3fn)
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Beyond its rows a plan depends on query heads per key head, the window, queries of a tile, keys of a span."""

    group: int
    window: int | None
    tile_queries: int
    span: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SplitPlan:
    """tiles_J6: first entry, first token, tokens, position of the first, first span, spans. spans_W2: tile, number.

    `tile_tokens` is the most that a tile has. `total_1` is W where the GPU reads it.
    """

    tile_tokens: int
    tiles_J6: Tensor
    spans_W2: Tensor
    total_1: Tensor

    @property
    def is_joined(self) -> bool:
        """Whether some tile has several spans."""
        return len(self.spans_W2) > len(self.tiles_J6)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExtendPlan:
    """Tiles as of a SplitPlan, without spans; those that see the most keys come first."""

    tiles_J6: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PagedRows:
    """`rows_R4`, on the host: first token, tokens, position of the first, first entry in tables_X (int32, on the GPU).

    `is_exact`: a token has the same bits however many tokens its row has, kernels/gpu/attention says at what price.
    `max_spans`: plans have room for so many, used or not (kernels/fixed_rows); None: for those there are.
    Writer of `plans`: the one thread that runs steps.
    """

    num_tokens: int
    rows_R4: Numbers
    tables_X: Tensor
    is_exact: bool
    max_spans: int | None = None
    plans: dict[Cut, SplitPlan | ExtendPlan | None] = field(default_factory=dict)

    def split(self, cut: Cut) -> SplitPlan | None:
        """Of the rows of few tokens; None when there are none."""
        plan = self._planned(cut, self._split_plan)
        assert plan is None or isinstance(plan, SplitPlan)
        return plan

    def extend(self, cut: Cut) -> ExtendPlan | None:
        """Of the other rows; None when there are none. No span is asked for: it is 0."""
        assert cut.span == 0
        plan = self._planned(cut, _extend_plan)
        assert plan is None or isinstance(plan, ExtendPlan)
        return plan

    def _planned(
        self, cut: Cut, make: "Callable[[Numbers, Cut, torch.device], SplitPlan | ExtendPlan | None]"
    ) -> SplitPlan | ExtendPlan | None:
        if cut not in self.plans:
            self.plans[cut] = make(self.rows_R4, cut, self.tables_X.device)
        return self.plans[cut]

    def _split_plan(self, rows_R4: Numbers, cut: Cut, device: torch.device) -> SplitPlan | None:
        arrays = split_arrays(rows_R4, cut)
        if arrays is None:
            return None
        spans_W2 = arrays.spans_W2
        if self.max_spans is not None:
            assert len(spans_W2) <= self.max_spans, f"{len(spans_W2)} spans for {self.max_spans} places"
            spans_W2 = np.zeros((self.max_spans, 2), dtype=np.int64)
            spans_W2[: len(arrays.spans_W2)] = arrays.spans_W2
        there = _on_device([arrays.tiles_J6, spans_W2, np.array([len(arrays.spans_W2)])], device)
        return SplitPlan(tile_tokens=arrays.tile_tokens, tiles_J6=there[0], spans_W2=there[1], total_1=there[2])


def can_be_paged(kv_PL2KSD: Tensor) -> bool:
    """Whether pages of this kind can be read where they lie. Scales of eight-bit pages must be aligned."""
    head_dim = channels(kv_PL2KSD)
    return kv_PL2KSD.dtype in DTYPES and head_dim <= LARGEST_DIM and head_dim % 4 == 0 and kv_PL2KSD.is_contiguous()


def paged_rows(
    tables: Sequence[Sequence[int]],
    starts: Sequence[int],
    counts: Sequence[int],
    kv_PL2KSD: Tensor,
    *,
    is_exact: bool = False,
) -> PagedRows:
    """Rows in any order. Raises IndexError as `ragged_tables` does."""
    facts, entries = ragged_tables(tables, starts, counts, kv_PL2KSD)
    return PagedRows(
        num_tokens=sum(counts),
        rows_R4=np.frombuffer(facts, dtype=np.int64).reshape(-1, 4),
        tables_X=_on_device([np.frombuffer(entries, dtype=np.int32)], kv_PL2KSD.device)[0],
        is_exact=is_exact,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SplitArrays:
    """A SplitPlan before it travels."""

    tile_tokens: int
    tiles_J6: Numbers
    spans_W2: Numbers


def split_arrays(rows_R4: Numbers, cut: Cut) -> SplitArrays | None:
    """Of the rows of few tokens; None when there are none."""
    few_R4 = rows_R4[rows_R4[:, 1] <= FEW_TOKENS]
    if not len(few_R4):
        return None
    tile_tokens = min(cut.tile_queries // cut.group, int(few_R4[:, 1].max()))
    tiles_J6 = _tiles(few_R4, tile_tokens)
    _, _, tokens_J, positions_J, _, _ = tiles_J6.T
    first_keys_J = np.zeros_like(positions_J)
    if cut.window is not None:
        first_keys_J = np.maximum(positions_J - cut.window + 1, 0)
    first_J = first_keys_J // cut.span
    counts_J = (positions_J + tokens_J - 1) // cut.span + 1 - first_J
    tiles_J6[:, 4] = np.cumsum(counts_J) - counts_J
    tiles_J6[:, 5] = counts_J
    tiles_W = np.repeat(np.arange(len(tiles_J6)), counts_J)
    numbers_W = np.arange(len(tiles_W)) - tiles_J6[tiles_W, 4] + first_J[tiles_W]
    return SplitArrays(tile_tokens=tile_tokens, tiles_J6=tiles_J6, spans_W2=np.stack((tiles_W, numbers_W), axis=1))


def _extend_plan(rows_R4: Numbers, cut: Cut, device: torch.device) -> ExtendPlan | None:
    many_R4 = rows_R4[rows_R4[:, 1] > FEW_TOKENS]
    if not len(many_R4):
        return None
    tiles_J6 = _tiles(many_R4, cut.tile_queries // cut.group)
    num_keys_J = tiles_J6[:, 2] + tiles_J6[:, 3]
    if cut.window is not None:
        num_keys_J = np.minimum(num_keys_J, cut.window + tiles_J6[:, 2])
    return ExtendPlan(tiles_J6=_on_device([tiles_J6[np.argsort(-num_keys_J, kind="stable")]], device)[0])


def _tiles(rows_R4: Numbers, tile_tokens: int) -> Numbers:
    """Tiles of at most `tile_tokens` of a row, spans not filled in."""
    firsts_R, counts_R, starts_R, entries_R = rows_R4.T
    numbers_R = -(-counts_R // tile_tokens)
    rows_J = np.repeat(np.arange(len(rows_R4)), numbers_R)
    offsets_J = (np.arange(len(rows_J)) - np.repeat(np.cumsum(numbers_R) - numbers_R, numbers_R)) * tile_tokens
    tokens_J = np.minimum(counts_R[rows_J] - offsets_J, tile_tokens)
    nothing_J = np.zeros_like(tokens_J)
    columns = (entries_R[rows_J], firsts_R[rows_J] + offsets_J, tokens_J, starts_R[rows_J] + offsets_J)
    return np.stack((*columns, nothing_J, nothing_J), axis=1)


def _on_device(arrays: "Sequence[npt.NDArray[np.int64] | npt.NDArray[np.int32]]", device: torch.device) -> list[Tensor]:
    """As int32, in one copy that does not wait for the GPU. Each begins at a multiple of 16 bytes."""
    padded = [-(-array.size // 4) * 4 for array in arrays]
    host = torch.zeros(sum(padded), dtype=torch.int32, pin_memory=device.type == "cuda")
    flat = host.numpy()
    firsts = np.cumsum([0, *padded])
    for array, first in zip(arrays, firsts, strict=False):
        assert array.size == 0 or array.max() < 2**31, "positions, tokens and entries fit 32 bits"
        flat[first : first + array.size] = array.reshape(-1)
    there = host.to(device, non_blocking=True)
    return [there[first : first + array.size].view(array.shape) for array, first in zip(arrays, firsts, strict=False)]
