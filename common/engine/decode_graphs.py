"""Decode steps recorded once per size and replayed: a step of 32 layers is one launch instead of some 400.

A replay computes what was recorded, on the same addresses: so a step's numbers are written into tensors that stay, and
a step is padded to a size that was recorded (buckets.py). What cannot be padded, or needs more room than there is, is
for the caller to compute as it comes. Recording is a function that is passed in: on a GPU device_graph.record; tests
pass one that computes anew, and so check everything but the capture itself. NOT RUN ON A GPU YET.

Legend: R rows, V vocabulary, P pages, L layers, 2 key and value, K key-value heads, S slots per page, D head dim.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from common.core.ids import PageId
from common.core.step import StepRow
from common.engine.buckets import Buckets, can_be_padded, padded
from common.engine.following import Following
from common.model.decoder import Decoder
from common.model.ragged import RaggedTokens
from kernels.fixed_rows import FixedRows, write_there
from kernels.paged_rows import can_be_paged
from kernels.wanted_rows import all_rows

Record = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]
"""Takes what computes a tensor from tensors that stay; gives what computes it again into the tensor it returns."""

MORE_SPANS = 1024
"""Spans of context beyond one per row that a recorded step has room for. Derived: a million tokens at 1,024 a span, for
17 MB of partial sums at 8 key-value heads of 128 channels and groups of 4. Steps with more run as they come."""


class DecodeGraphs:
    """Recorded steps over one decoder and its pages, of which `scratch` belongs to no pool. Writer: the step loop."""

    def __init__(
        self, decoder: Decoder, kv_PL2KSD: Tensor, *, scratch: PageId, buckets: Buckets, record: Record
    ) -> None:
        assert can_be_recorded(decoder, kv_PL2KSD)
        self._scratch = scratch
        self._decoder = decoder
        self._buckets = buckets
        with torch.inference_mode():
            # The largest first: what it let go of serves the others.
            self._steps = {
                size: _RecordedStep(decoder, kv_PL2KSD, padded((), size, scratch), record)
                for size in reversed(buckets.sizes)
            }

    def forward(self, rows: Sequence[StepRow], follow: Following | None = None) -> Tensor | None:
        """logits_RV in fp32, valid until the next forward; or None where this step was not recorded. `follow` has the
        tokens of rows that follow others.

        Raises IndexError for a row that the decoder would refuse.
        """
        size = self._buckets.choose(len(rows)) if can_be_padded(rows) else None
        if size is None:
            return None
        ids = [row.tokens[0] for row in rows]
        self._decoder.check(max(row.end for row in rows), range(min(ids), max(ids) + 1))
        logits_RV = self._steps[size].replay(padded(rows, size, self._scratch), follow)
        return None if logits_RV is None else logits_RV[: len(rows)]


def can_be_recorded(decoder: Decoder, kv_PL2KSD: Tensor) -> bool:
    """Only kernels that take a fixed grid replay; experts must lie where such a kernel finds the chosen ones itself."""
    return can_be_paged(kv_PL2KSD) and decoder.is_fixed_in_shape


class _RecordedStep:
    """One size. Recorded of `padding`, rows that touch the scratch page alone."""

    def __init__(self, decoder: Decoder, kv_PL2KSD: Tensor, padding: Sequence[StepRow], record: Record) -> None:
        size, device, self._page_size = len(padding), kv_PL2KSD.device, kv_PL2KSD.shape[4]
        longest = -(-decoder.max_context // self._page_size)
        self._fixed = FixedRows(size, max_entries=size * longest, max_spans=size + MORE_SPANS, kv_PL2KSD=kv_PL2KSD)
        self._ids_3R = torch.empty((3, size), dtype=torch.int64, device=device)
        tokens = RaggedTokens(
            tokens_T=self._ids_3R[0],
            positions_T=self._ids_3R[1],
            pages_T=self._ids_3R[2],
            rows=self._fixed.rows,
            wanted=all_rows(self._fixed.rows, size, device),
            num_positions=1,
            ids=range(1),
        )
        self._fill(padding)
        # Makes the plans and compiles the kernels: neither may happen while a graph is captured.
        decoder.forward(tokens, kv_PL2KSD)
        self._replay = record(lambda: decoder.forward(tokens, kv_PL2KSD))

    def replay(self, rows: Sequence[StepRow], follow: Following | None) -> Tensor | None:
        if not self._fill(rows):
            return None
        if follow is not None:
            follow.write(self._ids_3R[0])
        return self._replay()

    def _fill(self, rows: Sequence[StepRow]) -> bool:
        if not self._fixed.fill([row.pages for row in rows], [row.start for row in rows]):
            return False
        pages = [row.pages[row.start // self._page_size] for row in rows]
        write_there(self._ids_3R, np.array([[row.tokens[0] for row in rows], [row.start for row in rows], pages]))
        return True
