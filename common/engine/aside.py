"""A launcher that computes on a thread of its own, for executors that hold theirs: what a GPU is to the host."""

import threading
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue

from common.core.step import Step, StepResult
from common.engine.executor import Executor
from common.engine.inline import known


@dataclass(frozen=True, slots=True)
class AsideFlight:
    """Flight on the launcher's thread."""

    future: "Future[StepResult]"

    def collect(self) -> StepResult:
        # bounded: a step ends when its arithmetic does; one that hangs holds the step loop as it would without a thread
        return self.future.result()


class AsideLauncher:
    """Launcher over any executor, whose steps run in order on one thread. Writer of the executor: that thread.

    The step loop may meanwhile copy pages that no step in flight uses. The thread ends with `close`, or the process.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._last: StepResult | None = None
        self._steps: SimpleQueue[tuple[Step, Future[StepResult]] | None] = SimpleQueue()
        """At most two: the step loop launches no more before it collects."""
        threading.Thread(target=self._run, name="step-aside", daemon=True).start()

    def launch(self, step: Step) -> AsideFlight:
        future: Future[StepResult] = Future()
        self._steps.put((step, future))
        return AsideFlight(future)

    def close(self) -> None:
        """Nothing is launched any more."""
        self._steps.put(None)

    def _run(self) -> None:
        # bounded: `close` ends it, and as a daemon it ends with the process
        while (launched := self._steps.get()) is not None:
            step, future = launched
            try:
                self._last = self._executor.run(known(step, self._last))
            except BaseException as error:  # noqa: BLE001  # carried to the step loop, whose edge it reaches
                future.set_exception(error)
            else:
                future.set_result(self._last)
