"""Rows of one token each in memory that stays where it is: what a captured CUDA graph reads at every replay.

What changes between replays are numbers in tensors, never a tensor's address or size. Spans have room for `max_spans`;
how many there are is a number on the device, too, and the kernels' grids do not depend on it.

Legend: R rows, X entries of all page tables, W spans of all tiles.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kernels.dispatch import is_exact
from kernels.paged_rows import Cut, PagedRows, SplitArrays, SplitPlan, split_arrays
from kernels.ragged_tables import ragged_tables


class FixedRows:
    """`rows` of which a forward pass makes its plans once; `fill` then writes other rows into them.

    Before the first fill every row is one token on page 0. Writer: the thread that runs steps.
    """

    def __init__(self, num_rows: int, *, max_entries: int, max_spans: int, kv_PL2KSD: Tensor) -> None:
        assert max_entries >= num_rows
        assert max_spans > num_rows, "rows of several spans are joined: without room for them nothing would join"
        self._kv_PL2KSD = kv_PL2KSD
        self._max_entries = max_entries
        firsts_R = np.arange(num_rows)
        nothing_R = np.zeros_like(firsts_R)
        self.rows = PagedRows(
            num_tokens=num_rows,
            rows_R4=np.stack((firsts_R, nothing_R + 1, nothing_R, firsts_R), axis=1),
            tables_X=torch.zeros(max_entries, dtype=torch.int32, device=kv_PL2KSD.device),
            is_exact=is_exact(),
            max_spans=max_spans,
        )

    def fill(self, tables: Sequence[Sequence[int]], starts: Sequence[int]) -> bool:
        """Write these rows. False, and nothing is written, where they need more room than there is.

        Raises IndexError as `ragged_tables` does.
        """
        rows = self.rows
        assert len(tables) == len(starts) == rows.num_tokens, f"{len(tables)} rows for {rows.num_tokens} places"
        facts, entries = ragged_tables(tables, starts, [1] * len(tables), self._kv_PL2KSD)
        if len(entries) > self._max_entries:
            return False
        rows_R4 = np.frombuffer(facts, dtype=np.int64).reshape(-1, 4)
        planned = {cut: self._arrays(rows_R4, cut) for cut, plan in rows.plans.items() if plan is not None}
        assert rows.max_spans is not None
        if any(len(arrays.spans_W2) > rows.max_spans for arrays in planned.values()):
            return False
        rows.rows_R4[:] = rows_R4
        write_there(rows.tables_X, np.frombuffer(entries, dtype=np.int32))
        for cut, arrays in planned.items():
            plan = rows.plans[cut]
            assert isinstance(plan, SplitPlan)
            write_there(plan.tiles_J6, arrays.tiles_J6)
            write_there(plan.spans_W2, arrays.spans_W2)
            write_there(plan.total_1, np.array([len(arrays.spans_W2)]))
        return True

    @staticmethod
    def _arrays(rows_R4: "npt.NDArray[np.int64]", cut: Cut) -> SplitArrays:
        arrays = split_arrays(rows_R4, cut)
        assert arrays is not None, "a row of one token is one of few"
        return arrays


def write_there(into: Tensor, array: "npt.NDArray[np.int64] | npt.NDArray[np.int32]") -> None:
    """Write to the first elements of contiguous `into`, in one copy that does not wait for the GPU."""
    host = torch.empty(array.size, dtype=into.dtype, pin_memory=into.device.type == "cuda")
    host.numpy()[:] = array.reshape(-1)
    into.view(-1)[: array.size].copy_(host, non_blocking=True)
