"""The executor with weights: one ragged forward per step, and the sampler.

The tokens of a row depend on that row alone, bit for bit on the CPU: a forward computes every row by operators that
keep this promise (kernels says in which types), and noise is keyed by (seed, position).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from common.core.clock import Clock
from common.core.step import Step, StepResult, StepRow
from common.engine.decode_graphs import DecodeGraphs
from common.engine.device import finish_on, use_device
from common.engine.inputs import in_forward_order, ragged_tokens
from common.engine.reading import SILENCE, RowTold, read_logits
from common.kv.torch_storage import TorchStorage
from common.model.decoder import Decoder
from common.observe.logging import get_log
from kernels.quantized_pages import is_quantized
from kernels.threads import use_threads

ROW_ERRORS = (RuntimeError, IndexError, ValueError)
"""What torch raises for a row that cannot be computed."""

_log = get_log("engine")


class TorchExecutor:
    """Executor over a decoder and the tensor that holds its pages. Writer of both: the step loop's thread.

    `graphs` replay the decode steps that they can; on a GPU alone.
    """

    def __init__(
        self,
        decoder: Decoder,
        storage: TorchStorage,
        *,
        clock: Clock,
        num_threads: int | None = None,
        graphs: DecodeGraphs | None = None,
    ) -> None:
        assert storage.kv_PL2HSD.dtype is decoder.dtype or is_quantized(storage.kv_PL2HSD), (
            f"pages of {storage.layout.dtype} for a {decoder.dtype} model"
        )
        self.storage = storage
        self.vocab_size = decoder.spec.vocab_size
        self.max_context = decoder.max_context
        self._decoder = decoder
        self._clock = clock
        self._graphs = graphs
        use_threads(num_threads)

    def run(self, step: Step) -> StepResult:
        """See Executor. A forward that fails is repeated row by row: the row that fails alone is the poison."""
        began = self._clock.monotonic()
        use_device(self.storage.device)
        with torch.inference_mode():
            for copy in step.copies:
                self.storage.copy(copy.source, copy.destination)
            told = self._compute_together(step.rows) if step.rows else []
        finish_on(self.storage.device)  # A step's seconds are the device's, also where nothing was drawn.
        failed = tuple(row.sequence for row, own in zip(step.rows, told, strict=True) if own is None)
        said = [own or SILENCE for own in told]
        return StepResult(
            drawn=tuple(own.drawn for own in said),
            seconds=self._clock.monotonic() - began,
            failed=failed,
            logprobs=tuple(own.logprobs for own in said) if any(own.logprobs for own in said) else (),
            scores=tuple(own.scores for own in said) if any(own.scores for own in said) else (),
        )

    def _compute_together(self, rows: Sequence[StepRow]) -> list[RowTold | None]:
        """What each row gave, None for one that failed."""
        try:
            return self._compute(rows)
        except ROW_ERRORS as error:
            finish_on(self.storage.device)  # Where the GPU itself failed no row is to blame, and this raises.
            if len(rows) == 1:
                _log.error("row_failed", sequence=str(rows[0].sequence), error=str(error))
                return [None]
            _log.warning("forward_failed", rows=len(rows), error=str(error))
        return [told for row in rows for told in self._compute_together([row])]

    def _compute(self, rows: Sequence[StepRow]) -> list[RowTold | None]:
        """One forward over all rows. Raises one of ROW_ERRORS when some row cannot be computed."""
        order = in_forward_order(rows)
        ordered = [rows[index] for index in order]
        logits_RV = self._forward(ordered)
        # A sum is finite where every term is: one pass instead of three over a row per token.
        is_finite = torch.isfinite(logits_RV.sum(dim=1)).tolist()
        told: list[RowTold | None] = [None] * len(rows)
        for index, row, own in zip(order, ordered, read_logits(logits_RV, ordered), strict=True):
            if all(is_finite[own.first : own.end]):
                told[index] = own
            else:
                _log.error("row_failed", sequence=str(row.sequence), error="logits are not finite")
        return told

    def _forward(self, rows: Sequence[StepRow]) -> Tensor:
        """logits_RV of rows in forward order."""
        logits_RV = None if self._graphs is None else self._graphs.forward(rows)
        if logits_RV is not None:
            return logits_RV
        kv_PL2KSD = self.storage.kv_PL2HSD
        return self._decoder.forward(ragged_tokens(rows, kv_PL2KSD), kv_PL2KSD)
