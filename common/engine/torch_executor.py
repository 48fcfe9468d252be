"""The executor with weights: one ragged forward per step, and the sampler.

The tokens of a row depend on that row alone, bit for bit in fp32 on the CPU: a forward computes every row by operators
that keep this promise (kernels), and noise is keyed by (seed, position).
"""

from collections.abc import Sequence

import torch

from common.core.clock import Clock
from common.core.ids import SequenceId, TokenId
from common.core.step import Step, StepResult, StepRow
from common.engine.inputs import in_forward_order, ragged_tokens
from common.engine.sampler import draw_tokens
from common.kv.torch_storage import TorchStorage
from common.model.decoder import Decoder
from common.observe.logging import get_log

ROW_ERRORS = (RuntimeError, IndexError, ValueError)
"""What torch raises for a row that cannot be computed."""

_log = get_log("engine")


class TorchExecutor:
    """Executor over a decoder and the tensor that holds its pages. Writer of both: the step loop's thread."""

    def __init__(
        self, decoder: Decoder, storage: TorchStorage, *, clock: Clock, num_threads: int | None = None
    ) -> None:
        assert storage.kv_PL2HSD.dtype is decoder.dtype, f"pages of {storage.layout.dtype} for a {decoder.dtype} model"
        self.storage = storage
        self.vocab_size = decoder.spec.vocab_size
        self.max_context = decoder.max_context
        self._decoder = decoder
        self._clock = clock
        if num_threads is not None:
            torch.set_num_threads(num_threads)

    def run(self, step: Step) -> StepResult:
        """See Executor. A forward that fails is repeated row by row: the row that fails alone is the poison."""
        began = self._clock.monotonic()
        with torch.inference_mode():
            for copy in step.copies:
                self.storage.copy(copy.source, copy.destination)
            drawn = self._draw_together(step.rows) if step.rows else []
        failed: list[SequenceId] = []
        tokens: list[tuple[TokenId, ...]] = []
        for row, own in zip(step.rows, drawn, strict=True):
            tokens.append(own or ())
            if own is None:
                failed.append(row.sequence)
        seconds = self._clock.monotonic() - began
        return StepResult(drawn=tuple(tokens), seconds=seconds, failed=tuple(failed))

    def _draw_together(self, rows: Sequence[StepRow]) -> list[tuple[TokenId, ...] | None]:
        """Drawn tokens per row, None for a row that failed."""
        try:
            return self._draw(rows)
        except ROW_ERRORS as error:
            if len(rows) == 1:
                _log.error("row_failed", sequence=str(rows[0].sequence), error=str(error))
                return [None]
            _log.warning("forward_failed", rows=len(rows), error=str(error))
        return [drawn for row in rows for drawn in self._draw_together([row])]

    def _draw(self, rows: Sequence[StepRow]) -> list[tuple[TokenId, ...] | None]:
        """One forward over all rows. Raises one of ROW_ERRORS when some row cannot be computed."""
        order = in_forward_order(rows)
        ordered = [rows[index] for index in order]
        kv_PL2KSD = self.storage.kv_PL2HSD
        logits_RV = self._decoder.forward(ragged_tokens(ordered, kv_PL2KSD), kv_PL2KSD)
        is_finite_R = torch.isfinite(logits_RV).all(dim=1).tolist()
        drawing = [row for row in ordered if row.samples]
        wanted = [number for number, row in enumerate(drawing) for _ in row.samples]
        samples = [sample for row in drawing for sample in row.samples]
        tokens = iter(draw_tokens(logits_RV[wanted], samples) if samples else [])
        drawn: list[tuple[TokenId, ...] | None] = [()] * len(rows)
        finite = iter(is_finite_R)
        for index, row in zip(order, ordered, strict=True):
            own = tuple(next(tokens) for _ in row.samples)
            if row.samples and not next(finite):
                _log.error("row_failed", sequence=str(row.sequence), error="logits are not finite")
                drawn[index] = None
            else:
                drawn[index] = own
        return drawn
