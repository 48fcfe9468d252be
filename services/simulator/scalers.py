"""Autoscalers to compare: the planner that runs in production, two HPAs that know nothing of each other, and none."""

from dataclasses import dataclass, field

from common.core.worker import Role, WorkerState
from common.directory.sighting import Sighting
from services.planner.decide import State, decide
from services.planner.settings import PlannerSettings
from services.planner.signals import Watch
from services.simulator.scaling_hpa import SYNC_S, Hpa, HpaSettings
from services.simulator.scaling_play import Replicas


@dataclass(frozen=True, slots=True, kw_only=True)
class Static:
    """As many as for the peak, always."""

    replicas: Replicas
    period_s: float = 60.0

    def desired(self, _sighting: Sighting, _present: Replicas, _now: float) -> Replicas:
        return self.replicas


@dataclass(slots=True, kw_only=True)
class Depths:
    """An HPA per role on the requests that wait for it: at the router, and on its workers."""

    prefill: Hpa
    decode: Hpa
    period_s: float = SYNC_S

    @classmethod
    def of(cls, prefill: HpaSettings, decode: HpaSettings) -> "Depths":
        return cls(prefill=Hpa(prefill), decode=Hpa(decode))

    def desired(self, sighting: Sighting, present: Replicas, now: float) -> Replicas:
        return Replicas(
            prefill=self.prefill.sync(_depth(sighting, Role.PREFILL), present.prefill, now),
            decode=self.decode.sync(_depth(sighting, Role.DECODE), present.decode, now),
        )


@dataclass(slots=True, kw_only=True)
class Joint:
    """`services/planner/decide`, fed as the planner's process feeds it."""

    settings: PlannerSettings
    watch: Watch
    state: State = field(default_factory=State)

    @property
    def period_s(self) -> float:
        return self.settings.interval_s

    def desired(self, sighting: Sighting, present: Replicas, now: float) -> Replicas:
        found = decide(self.watch.signals(sighting, now), self.state, self.settings)
        self.state = found.state
        if found.prefill is None or found.decode is None:
            return present
        return Replicas(prefill=found.prefill.desired, decode=found.decode.desired)


def _depth(sighting: Sighting, role: Role) -> float:
    """Requests that wait for this role."""
    at_router = sum(depth.requests for view in sighting.queues for depth in view.report.depths if depth.role is role)
    members = [member for member in sighting.members if member.role is role and member.state is WorkerState.READY]
    return float(at_router + sum(member.load.waiting_requests for member in members))
