"""Autoscalers to compare: the planner that runs in production, two HPAs that know nothing of each other, and none."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from common.core.worker import Member, Role, WorkerState
from common.directory.sighting import Sighting
from services.planner.decide import State, decide
from services.planner.numbers import Number, number
from services.planner.settings import PlannerSettings
from services.planner.signals import Watch, load_of
from services.simulator.scaling_hpa import SYNC_S, Hpa, HpaSettings, Shown
from services.simulator.scaling_play import Replicas


@dataclass(frozen=True, slots=True, kw_only=True)
class Static:
    """As many as for the peak, always."""

    replicas: Replicas
    period_s: float = 60.0

    def desired(self, _sighting: Sighting, _present: Replicas, _now: float) -> Replicas:
        return self.replicas


class Look(Protocol):
    """What the HPA of a role is shown."""

    def shown(self, sighting: Sighting, role: Role) -> Sequence[Shown]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """Requests that wait for this role: at the router, and on its workers. `target` per replica."""

    target: float

    def shown(self, sighting: Sighting, role: Role) -> Sequence[Shown]:
        at_router = sum(
            depth.requests for view in sighting.queues for depth in view.report.depths if depth.role is role
        )
        on_workers = sum(member.load.waiting_requests for member in _ready(sighting, role))
        return (Shown(value=float(at_router + on_workers), target=self.target),)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartQueue:
    """What the chart's HPAs are shown by `autoscaling.by: queue`, with its default targets: prompt tokens that wait, KV
    pages in workers' worth and sequences, per replica, and seconds. `factor`: all targets times so much."""

    queued_tokens: float = 8192.0
    kv_usage: float = 0.75
    running_sequences: float = 48.0
    admission_s: float = 1.0
    factor: float = 1.0

    def shown(self, sighting: Sighting, role: Role) -> Sequence[Shown]:
        load = load_of(sighting, frozenset())

        def per_replica(name: Number, target: float) -> Shown:
            return Shown(value=number(name, load, None), target=target * self.factor)

        if role is Role.PREFILL:
            return (per_replica(Number.PREFILL_QUEUED_TOKENS, self.queued_tokens),)
        seconds = number(Number.DECODE_ADMISSION_SECONDS, load, None)
        return (
            per_replica(Number.DECODE_KV_USAGE, self.kv_usage),
            per_replica(Number.DECODE_RUNNING_SEQUENCES, self.running_sequences),
            Shown(value=seconds, target=self.admission_s * self.factor, is_average=False),
        )


@dataclass(slots=True, kw_only=True)
class Pair:
    """An HPA per role, neither of which knows of the other."""

    look: Look
    prefill: Hpa
    decode: Hpa
    period_s: float = SYNC_S

    @classmethod
    def of(cls, look: Look, most: Replicas) -> "Pair":
        """With the behaviour that the chart gives them."""
        return cls(look=look, prefill=_hpa(Role.PREFILL, most), decode=_hpa(Role.DECODE, most))

    def desired(self, sighting: Sighting, present: Replicas, now: float) -> Replicas:
        def synced(role: Role, hpa: Hpa) -> int:
            ready = len(_ready(sighting, role))
            return hpa.sync(self.look.shown(sighting, role), present.of(role), now, ready=ready)

        return Replicas(prefill=synced(Role.PREFILL, self.prefill), decode=synced(Role.DECODE, self.decode))


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


@dataclass(slots=True, kw_only=True)
class Followed:
    """The planner behind the HPAs that the chart installs for it: they read what it wants at every sync, 1 a replica,
    and have no window of their own."""

    planner: Joint
    prefill: Hpa
    decode: Hpa
    synced_at: float | None = None

    @classmethod
    def of(cls, planner: Joint, most: Replicas) -> "Followed":
        """With the behaviour that the chart gives them."""
        return cls(
            planner=planner,
            prefill=_hpa(Role.PREFILL, most, down_window_s=0.0),
            decode=_hpa(Role.DECODE, most, down_window_s=0.0),
        )

    @property
    def period_s(self) -> float:
        return self.planner.period_s

    def desired(self, sighting: Sighting, present: Replicas, now: float) -> Replicas:
        wanted = self.planner.desired(sighting, present, now)
        if self.synced_at is not None and now - self.synced_at < SYNC_S:
            return present
        self.synced_at = now

        def synced(role: Role, hpa: Hpa) -> int:
            return hpa.sync((Shown(value=float(wanted.of(role)), target=1.0),), present.of(role), now)

        return Replicas(prefill=synced(Role.PREFILL, self.prefill), decode=synced(Role.DECODE, self.decode))


def _hpa(role: Role, most: Replicas, *, down_window_s: float = 300.0) -> Hpa:
    down_period_s = 60.0 if role is Role.PREFILL else 120.0
    return Hpa(HpaSettings(most=most.of(role), down_window_s=down_window_s, down_period_s=down_period_s))


def _ready(sighting: Sighting, role: Role) -> list[Member]:
    return [member for member in sighting.members if member.role is role and member.state is WorkerState.READY]
