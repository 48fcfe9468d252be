"""The worst device for a host that is ahead: a step runs no sooner than somebody waits for it."""

from dataclasses import dataclass

from common.core.step import Step, StepResult
from common.engine.executor import Executor
from common.engine.inline import known


class LateLauncher:
    """Launcher. Whatever the host touches between launch and collection, the step sees as it is then."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._last: StepResult | None = None
        self._waiting: list[LateFlight] = []

    def launch(self, step: Step) -> "LateFlight":
        assert len(self._waiting) <= 1, "more than one step is in flight"
        flight = LateFlight(self, step)
        self._waiting.append(flight)
        return flight

    def run(self, flight: "LateFlight") -> StepResult:
        assert self._waiting.pop(0) is flight, "collected out of order, or twice"
        self._last = self._executor.run(known(flight.step, self._last))
        return self._last


@dataclass(frozen=True, slots=True, eq=False)
class LateFlight:
    launcher: LateLauncher
    step: Step

    def collect(self) -> StepResult:
        return self.launcher.run(self)
