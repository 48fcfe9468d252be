"""A worker's own cost model, learnt from its steps and its transfers."""

from dataclasses import replace
from enum import StrEnum

from common.core.cost.fit import LinearFit
from common.core.cost.model import DEFAULT, STEP_COEFFICIENTS, TRANSFER_COEFFICIENTS, CostModel
from common.core.cost.work import StepWork

HOPES = {"decode_row_s": 1e-4, "decode_context_s": 5e-8}
"""Chosen: an answer more is nearly free beside the step, as on a GPU. Who has only ever written one says nothing about
many. Thought dear it is passed over and never learns; thought cheap it is given some, and knows after a few steps."""


class CostStage(StrEnum):
    """What predictions are checked for."""

    DECODE = "decode"
    EXTEND = "extend"
    TRANSFER = "transfer"


class CostMeter:
    """Writer: one thread. Durations come in, a CostModel comes out."""

    def __init__(self) -> None:
        hopes = {STEP_COEFFICIENTS.index(name): value for name, value in HOPES.items()}
        self._steps = LinearFit([getattr(DEFAULT, name) for name in STEP_COEFFICIENTS], hopes, num_kinds=2)
        self._moves = LinearFit([getattr(DEFAULT, name) for name in TRANSFER_COEFFICIENTS])
        self._learnt_at: float | None = None

    def stepped(self, work: StepWork, seconds: float, now: float) -> None:
        """A step did this work in `seconds`."""
        features = (1.0, work.extend_tokens, work.extend_pairs, work.decode_rows, work.decode_context)
        self._steps.observe(features, seconds, kind=int(work.is_extending))
        self._learnt_at = now

    def moved(self, num_moves: int, num_bytes: int, seconds: float) -> None:
        """So many runs of pages, of so many bytes together, took `seconds` together."""
        if num_moves > 0:
            self._moves.observe((num_moves, num_bytes), seconds)

    def model(self, now: float) -> CostModel:
        """The present estimate. Before anything was learnt: the default, marked as fitted to nothing."""
        if not self._steps.num_learnt or self._learnt_at is None:
            return replace(DEFAULT, num_steps=0, age_s=0.0, error=0.0)
        step = dict(zip(STEP_COEFFICIENTS, self._steps.coefficients(), strict=True))
        move = dict(zip(TRANSFER_COEFFICIENTS, self._moves.coefficients(), strict=True))
        return CostModel(
            **step,
            **move,
            num_steps=self._steps.num_learnt,
            age_s=max(0.0, now - self._learnt_at),
            error=max(self._steps.error(0), self._steps.error(1)),
        )

    def error(self, stage: CostStage) -> float:
        """Recent relative error of predictions."""
        if stage is CostStage.TRANSFER:
            return self._moves.error()
        return self._steps.error(int(stage is CostStage.EXTEND))
