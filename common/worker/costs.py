"""What this worker's steps and transfers cost, learnt from its own timings and published with its load."""

from dataclasses import replace

from common.core.clock import Clock
from common.core.cost.meter import CostMeter, CostStage
from common.core.worker import LoadReport
from common.engine.telling import Stepped
from common.observe import catalogue
from common.observe.registry import Metrics
from common.transfer.counters import TransferTotals


class WorkerCosts:
    """Writer: the event loop, which hears of every step. Steps are not slowed by the learning."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._meter = CostMeter()
        self._seen = (0, 0, 0.0)

    def stepped(self, step: Stepped) -> None:
        """A step was done."""
        if step.num_rows:
            self._meter.stepped(step.work, step.seconds, self._clock.monotonic())

    def moved(self, sent: TransferTotals) -> None:
        """Totals of what was sent: the difference to the last ones is one observation."""
        seen, self._seen = self._seen, (sent.num_moves, sent.bytes, sent.seconds)
        self._meter.moved(sent.num_moves - seen[0], sent.bytes - seen[1], sent.seconds - seen[2])

    def priced(self, load: LoadReport) -> LoadReport:
        """The report with the present model; without one while nothing was learnt."""
        model = self._meter.model(self._clock.monotonic())
        return load if model.is_default else replace(load, cost=model)

    def show(self) -> None:
        """Brings the metrics up to date."""
        model = self._meter.model(self._clock.monotonic())
        self._metrics.set(catalogue.COST_STEPS, model.num_steps)
        self._metrics.set(catalogue.COST_AGE, model.age_s)
        for stage in CostStage:
            self._metrics.set(catalogue.COST_ERROR, self._meter.error(stage), stage=stage)
