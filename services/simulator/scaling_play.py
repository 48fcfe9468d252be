"""A trace played on a fleet that an autoscaler changes meanwhile."""

from dataclasses import dataclass, replace
from typing import Protocol

from common.core.ids import Epoch, RouterId, RouterRef, WorkerId
from common.core.queue import QueueDepth, QueueReport
from common.core.request import Priority
from common.core.worker import Member, Role, WorkerState
from common.directory.codec import QueueView
from common.directory.sighting import Sighting
from services.router.admission.limits import AdmissionLimits
from services.simulator.cluster import ClusterShape
from services.simulator.outcome import Outcome
from services.simulator.playing import Play
from services.simulator.policies import Policy
from services.simulator.scaling_fleet import PAID, Phase, Roster, ScaledFleet
from services.simulator.scaling_pulse import Pulse
from services.simulator.trace import Trace

ROUTER = RouterRef(router=RouterId("router-0"), epoch=Epoch(1))
CAUSE_OF_STATE = {
    Phase.STARTING: WorkerState.STARTING,
    Phase.READY: WorkerState.READY,
    Phase.DRAINING: WorkerState.DRAINING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """Workers per role: wanted, or there."""

    prefill: int
    decode: int

    def of(self, role: Role) -> int:
        return self.prefill if role is Role.PREFILL else self.decode


class Scaler(Protocol):
    """Anything that says how many there should be."""

    @property
    def period_s(self) -> float: ...

    def desired(self, sighting: Sighting, present: Replicas, now: float) -> Replicas: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What was wanted and what there was."""

    at: float
    wanted: Replicas
    ready: Replicas


class ScaledPlay(Play):
    """Writer of everything in it. `shape` has as many machines of each role as may ever run; `first` are ready at 0."""

    def __init__(
        self,
        name: str,
        policy: Policy,
        trace: Trace,
        shape: ClusterShape,
        *,
        limits: AdmissionLimits,
        scaler: Scaler,
        first: Replicas,
        start_s: float,
    ) -> None:
        super().__init__(name, policy, trace, shape, limits=limits)
        self._scaler = scaler
        self._start_s = start_s
        self._seen_fleet = ScaledFleet(
            tuple(self._machines.values()), self._holders, duals=(), page_bytes=self._page_bytes
        )
        self._fleet = self._seen_fleet
        self._roster = Roster(roles={ref.worker: role for ref, role, _ in shape.roles()})
        self._pulses = {name: Pulse() for name in self._roster.roles}
        for role in Role:
            for index, worker in enumerate(sorted(name for name, each in self._roster.roles.items() if each is role)):
                self._roster.phases[worker] = Phase.READY if index < first.of(role) else Phase.OFF
        self._wanted = first
        self.moments: list[Moment] = []
        self._show()
        self._timeline.at(0.0, self._tick)

    @property
    def worker_hours(self) -> float:
        return self._roster.paid_s / 3600.0

    def run(self) -> Outcome:
        outcome = super().run()
        self._roster.pay(self._timeline.now)
        return outcome

    def _tick(self) -> None:
        """One look of the autoscaler, and the next one, as long as there is anything to come."""
        now = self._timeline.now
        self._roster.pay(now)
        self._retire()
        present = Replicas(prefill=self._roster.count(Role.PREFILL), decode=self._roster.count(Role.DECODE))
        self._wanted = self._scaler.desired(self._sighting(now), present, now)
        for role in Role:
            self._apply(role, self._wanted.of(role) - present.of(role))
        self._show()
        ready = [len(self._roster.of(role, (Phase.READY,))) for role in (Role.PREFILL, Role.DECODE)]
        self.moments.append(Moment(at=now, wanted=self._wanted, ready=Replicas(prefill=ready[0], decode=ready[1])))
        if now < self._trace.requests[-1].arrived_s or self._jobs:
            self._timeline.at(now + self._scaler.period_s, self._tick)

    def _apply(self, role: Role, change: int) -> None:
        now, roster = self._timeline.now, self._roster
        if change > 0:
            for worker in roster.of(role, (Phase.OFF,))[:change]:
                roster.phases[worker] = Phase.STARTING
                self._timeline.at(now + self._start_s, lambda worker=worker: self._started(worker))  # type: ignore[misc]
            return
        # Those that are not ready yet go first, then the emptiest: what pod-deletion-cost asks for.
        standing = self._seen_fleet.view(now).workers
        load = {each.worker.worker: (each.num_sequences, each.backlog_tokens) for each in standing}
        starting = roster.of(role, (Phase.STARTING,))
        ready = sorted(roster.of(role, (Phase.READY,)), key=lambda worker: load[worker])
        for worker in [*starting, *ready][: max(0, -change)]:
            is_started = roster.phases[worker] is Phase.READY
            roster.phases[worker] = Phase.DRAINING if is_started else Phase.OFF

    def _started(self, worker: WorkerId) -> None:
        if self._roster.phases[worker] is Phase.STARTING:
            self._roster.pay(self._timeline.now)
            self._roster.phases[worker] = Phase.READY
            self._show()
            self._timeline.at(self._timeline.now, self._pump)

    def _retire(self) -> None:
        for worker, phase in self._roster.phases.items():
            if phase is Phase.DRAINING and self._seen_fleet.is_empty(worker):
                self._roster.phases[worker] = Phase.OFF

    def _show(self) -> None:
        self._seen_fleet.ready = self._roster.ready

    def _sighting(self, now: float) -> Sighting:
        """What a planner finds in Redis."""
        members = [self._member(name, phase, now) for name, phase in self._roster.phases.items() if phase in PAID]
        report = QueueReport(
            depths=tuple(self._depth(role, priority, now) for role in Role for priority in Priority),
            decode_admission_s=self._line.landing_s(now),
        )
        return Sighting(members=tuple(members), queues=(QueueView(router=ROUTER, report=report),))

    def _member(self, name: WorkerId, phase: Phase, now: float) -> Member:
        machine, role = self._machines[name], self._roster.roles[name]
        pulse, tally = self._pulses[name], machine.tally
        read, drawn = pulse.read.up_to(tally.read_tokens, now), pulse.drawn.up_to(tally.decoded_tokens, now)
        is_reader = role is Role.PREFILL
        return Member(
            worker=machine.ref,
            role=role,
            state=CAUSE_OF_STATE[phase],
            load=replace(
                machine.report(),
                tokens_per_second=read if is_reader else drawn,
                read_tokens_per_second=0.0 if is_reader else read,
            ),
            layout_fingerprint=b"",
        )

    def _depth(self, role: Role, priority: Priority, now: float) -> QueueDepth:
        waiting = [entry.ticket for entry in self._line.queue(priority)]
        return QueueDepth(
            role=role,
            priority=priority,
            requests=len(waiting),
            uncached_tokens=sum(ticket.uncached_tokens for ticket in waiting),
            queue_s=self._line.drain_s(priority, now) if waiting else 0.0,
            cause=self._line.cause if waiting else None,
        )
