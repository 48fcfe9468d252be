"""The planner's loop: look, decide, tell. Everything that decides is pure and elsewhere."""

import asyncio

from common.core.clock import Clock
from common.core.worker import Role
from common.directory.sighting import Lookout
from common.observe import catalogue
from common.observe.logging import get_log
from common.observe.registry import Metrics
from services.planner.decide import Recommendation, Verdict, decide
from services.planner.journal import Journal
from services.planner.load import Crew, Signals
from services.planner.outlook import Outlook
from services.planner.settings import PlannerSettings
from services.planner.signals import Watch

_LOG = get_log("planner")


class Planner:
    """Writer of the outlook and of the planner's metrics. `run` lives in the app's TaskGroup."""

    def __init__(
        self,
        *,
        lookout: Lookout,
        watch: Watch,
        outlook: Outlook,
        settings: PlannerSettings,
        journal: Journal,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._lookout = lookout
        self._watch = watch
        self._outlook = outlook
        self._settings = settings
        self._journal = journal
        self._metrics = metrics
        self._clock = clock
        for role in Role:
            metrics.set(catalogue.PLANNER_LIMIT, settings.bounds(role).most, target=role)
        self.turns = 0
        """Looks taken: liveness is that they go on."""

    async def run(self) -> None:
        """Once per interval until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._settings.interval_s)

    async def look(self) -> Recommendation:
        """One look and what follows from it."""
        sighting = await self._lookout.look()
        signals = self._watch.signals(sighting, self._clock.monotonic())
        before = self._outlook.state
        recommendation = decide(signals, before, self._settings)
        self._journal.note(before, signals, recommendation)
        for verdict in self._outlook.note(signals, recommendation, sighting.members if sighting else ()):
            _tell(verdict)
        self._show(signals, recommendation)
        self.turns += 1
        return recommendation

    def _show(self, signals: Signals, recommendation: Recommendation) -> None:
        self._metrics.set(catalogue.PLANNER_BLIND, float(signals.load is None))
        for role in Role:
            if (verdict := recommendation.of(role)) is None:
                continue
            self._metrics.set(catalogue.PLANNER_DESIRED, verdict.desired, target=role)
            if verdict.before is not None and verdict.before != verdict.desired:
                direction = "up" if verdict.desired > verdict.before else "down"
                self._metrics.add(catalogue.PLANNER_CHANGES, target=role, direction=direction)
            if verdict.load is None:
                self._metrics.clear(catalogue.PLANNER_LOAD, target=role)
            else:
                self._metrics.set(catalogue.PLANNER_LOAD, verdict.load, target=role)
        if signals.load is not None:
            self._show_crew(Role.PREFILL, signals.load.reading.crew)
            self._show_crew(Role.DECODE, signals.load.writing.crew)

    def _show_crew(self, role: Role, crew: Crew) -> None:
        counts = {"ready": crew.ready, "starting": crew.starting, "draining": crew.draining}
        for state, count in counts.items():
            self._metrics.set(catalogue.PLANNER_WORKERS, count, target=role, state=state)


def _tell(verdict: Verdict) -> None:
    _LOG.info(
        "workers_wanted",
        role=verdict.role,
        desired=verdict.desired,
        before=verdict.before,
        why=verdict.why,
        need=verdict.need,
        trials={trial.workers: round(trial.missed, 4) for trial in verdict.trials},
    )
