"""In which order steps are planned, launched and collected: see flight.py for what may happen between."""

from collections.abc import Callable, Iterator

from common.engine.batch import Batch
from common.engine.outcome import BatchOutcome
from common.engine.plan import BatchPlan


class Stepper:
    """Drives one batch. `is_ahead`: the next step is planned and launched before the last one is collected.

    Every outcome must be dealt with before the next one is asked for: plans are made from what it left behind.
    """

    def __init__(self, batch: Batch, *, is_ahead: bool) -> None:
        self._batch = batch
        self._is_ahead = is_ahead

    @property
    def is_flying(self) -> bool:
        """Whether a step is in flight: there is something to do even if nothing is planned."""
        return self._batch.num_in_flight > 0

    def turn(self, plan: Callable[[], BatchPlan]) -> Iterator[BatchOutcome]:
        """Launch what `plan` says, collect what came before; without steps ahead, the same step at once."""
        if self._batch.needs_collection:
            yield from self.settle()
        wanted = plan()
        if wanted.preempt and self.is_flying:
            yield from self.settle()
            wanted = plan()
        if wanted.is_empty:
            yield from self.settle()
            return
        is_running = self._batch.launch(wanted)
        may_stay = 1 if self._is_ahead and is_running and not wanted.preempt else 0
        while self._batch.num_in_flight > may_stay:
            yield self._batch.collect()

    def settle(self) -> Iterator[BatchOutcome]:
        """Collect everything: afterwards sequences are as if no step were ever ahead."""
        while self.is_flying:
            yield self._batch.collect()
