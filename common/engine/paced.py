"""An executor that takes the time its steps claim: a simulated engine slow enough to be interrupted half-way."""

import threading
from dataclasses import dataclass

from common.core.step import Step, StepResult
from common.engine.executor import Executor
from common.kv.storage import PageStorage


@dataclass(frozen=True, slots=True)
class PacedExecutor:
    """Around another executor. Called from the step loop's thread, which it holds up: a model would do the same."""

    paced: Executor

    @property
    def storage(self) -> PageStorage:
        return self.paced.storage

    @property
    def vocab_size(self) -> int:
        return self.paced.vocab_size

    @property
    def max_context(self) -> int:
        return self.paced.max_context

    def run(self, step: Step) -> StepResult:
        result = self.paced.run(step)
        threading.Event().wait(result.seconds)
        return result
