"""A launcher for executors that hold the thread while they compute: a step is done when it was launched."""

from dataclasses import dataclass, replace

from common.core.step import STAND_IN, Step, StepResult, StepRow
from common.engine.executor import Executor


@dataclass(frozen=True, slots=True)
class Landed:
    """Flight whose step is done."""

    result: StepResult

    def collect(self) -> StepResult:
        return self.result


class InlineLauncher:
    """Launcher over any executor."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._last: StepResult | None = None

    def launch(self, step: Step) -> Landed:
        self._last = self._executor.run(known(step, self._last))
        return Landed(self._last)


def known(step: Step, last: StepResult | None) -> Step:
    """A step with the tokens that the step before it drew. Nothing was drawn by a row that failed: nobody will be told
    what becomes of the row behind it."""
    if not any(row.follows is not None for row in step.rows):
        return step
    assert last is not None, "a row follows a step that was never launched"
    return replace(step, rows=tuple(_known(row, last) for row in step.rows))


def _known(row: StepRow, last: StepResult) -> StepRow:
    if row.follows is None:
        return row
    drawn = last.drawn[row.follows]
    return replace(row, tokens=drawn[:1] or (STAND_IN,), follows=None)
