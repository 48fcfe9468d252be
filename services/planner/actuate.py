"""Sets what was decided, where this process may: with the Lease, the scale; and which pods are to go first.

Scales only with `planner.actuate=kubernetes`: an HPA on the same workload would set them back, and the chart refuses
both. Pods only with `planner.deletion_costs`, whoever sets the scale.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from common.core.clock import Clock
from common.core.errors import BatonError, Unavailable
from common.core.waiting import wait_set
from common.core.worker import Member, Role, WorkerState
from common.observe import catalogue
from common.observe.logging import get_log
from common.observe.registry import Metrics
from services.planner.decide import Recommendation
from services.planner.lease import DURATION_S, LeaseView, Step, Watched, next_step

PERIOD_S = 5.0
"""Chosen: a third of the Lease's duration, so that two renewals may fail."""

MAX_COSTS = 32
"""Chosen: annotations written in one round; the rest follows in the next."""

REFUSED_S = 15.0
"""Chosen: three rounds until a pod is tried again whose cost was refused; those behind it are marked meanwhile."""

_LOG = get_log("planner")


class Scales(Protocol):
    """The workloads, the Lease and the pods. Every call blocks, on a thread; raises Unavailable when the API does not
    answer, or refuses."""

    def lease(self) -> LeaseView | None: ...

    def hold(self, step: Step, *, me: str, version: str) -> bool:
        """Writes the Lease. False: somebody else was faster."""
        ...

    def let_go(self, *, version: str) -> bool:
        """Writes the Lease without a holder. False: somebody else was faster."""
        ...

    def replicas(self, role: Role) -> int: ...

    def scale(self, role: Role, replicas: int) -> None: ...

    def set_deletion_cost(self, pod: str, cost: int) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is wanted, and who is there."""

    recommendation: Recommendation | None
    members: Sequence[Member]


class Actuator:
    """Writer of the scales while it leads. `run` lives in the app's TaskGroup."""

    def __init__(
        self,
        scales: Scales,
        *,
        me: str,
        read: Callable[[], Wish],
        sets_scales: bool,
        marks_pods: bool,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._scales = scales
        self._me = me
        self._sets_scales = sets_scales
        self._marks_pods = marks_pods
        self._read = read
        self._metrics = metrics
        self._clock = clock
        self._watched = Watched()
        self._held_until = 0.0
        self._costs: dict[str, int] = {}
        self._refused_at: dict[str, float] = {}
        self._is_leaving = False

    async def run(self, stop: asyncio.Event) -> None:
        """A round every PERIOD_S until `stop`; then the Lease is let go, so that nobody waits for its end. An API that
        does not answer costs a round, nothing else."""
        while not stop.is_set():
            try:
                await asyncio.to_thread(self.round)
            except BatonError as error:
                self._metrics.add(catalogue.PLANNER_PATCHES, outcome="failed")
                _LOG.warning("scale_not_set", error=error.message)
            self._metrics.set(catalogue.PLANNER_LEADS, float(self.is_leader))
            await wait_set(stop, PERIOD_S)
        try:
            await asyncio.to_thread(self.let_go)
        except BatonError as error:
            _LOG.warning("lease_not_let_go", error=error.message)

    def hurry(self) -> None:
        """A round that is under way writes nothing more. From any thread."""
        self._is_leaving = True

    def let_go(self) -> None:
        """Whoever asks next has the Lease. Raises Unavailable."""
        if not self.is_leader:
            return
        self._held_until = 0.0
        lease = self._scales.lease()
        if lease is not None and lease.holder == self._me:
            self._scales.let_go(version=lease.version)
            _LOG.info("lease_let_go", planner=self._me)

    @property
    def is_leader(self) -> bool:
        return self._clock.monotonic() < self._held_until

    @property
    def _may_write(self) -> bool:
        return self.is_leader and not self._is_leaving

    def round(self) -> None:
        """The Lease first; then, with it, costs and scales: a ReplicaSet that shrinks looks at what the pods cost then.
        Raises Unavailable."""
        now = self._clock.monotonic()
        lease = self._scales.lease()
        step, self._watched = next_step(lease, self._watched, me=self._me, now=now)
        if step is not Step.WAIT:
            version = "" if lease is None else lease.version
            is_held = self._scales.hold(step, me=self._me, version=version)
            # From before the write: others count from when they see it.
            self._held_until = now + DURATION_S * 2 / 3 if is_held else 0.0
        if not self._may_write:
            self._costs = {}  # who leads now writes others
            return
        wish = self._read()
        if self._marks_pods:
            self._mark(wish.members)
        for role in Role:
            if self._sets_scales and self._may_write:
                self._scale(role, wish.recommendation)

    def _scale(self, role: Role, recommendation: Recommendation | None) -> None:
        verdict = None if recommendation is None else recommendation.of(role)
        if verdict is None:
            return
        before = self._scales.replicas(role)
        if before != verdict.desired and self._may_write:
            self._scales.scale(role, verdict.desired)
            self._metrics.add(catalogue.PLANNER_PATCHES, outcome="done")
            _LOG.info("scale_set", role=role, before=before, replicas=verdict.desired, why=verdict.why)

    def _mark(self, members: Sequence[Member]) -> None:
        """Pods with fewer sequences go first; only a ReplicaSet looks at it. A pod is named as its worker."""
        costs = deletion_costs(members)
        self._costs = {pod: self._costs[pod] for pod in costs if pod in self._costs}
        since = self._clock.monotonic() - REFUSED_S
        self._refused_at = {pod: at for pod, at in self._refused_at.items() if pod in costs and at > since}
        changed = [pod for pod, cost in costs.items() if self._costs.get(pod) != cost and pod not in self._refused_at]
        for pod in changed[:MAX_COSTS]:
            if not self._may_write:
                return
            try:
                self._scales.set_deletion_cost(pod, costs[pod])
            except Unavailable as error:
                self._metrics.add(catalogue.PLANNER_PATCHES, outcome="refused")
                _LOG.debug("cost_not_set", pod=pod, error=error.message)
                self._costs.pop(pod, None)  # what stands there now is not known
                self._refused_at[pod] = self._clock.monotonic()
            else:
                self._costs[pod] = costs[pod]


def deletion_costs(members: Sequence[Member]) -> Mapping[str, int]:
    """What would be lost: sequences that run or wait, and prompts whose pages have not left. Powers of two, so that
    not every token of traffic writes to the API."""
    return {
        str(member.worker.worker): _coarse(
            member.load.running_sequences + member.load.waiting_requests + member.load.outstanding_exports
        )
        for member in members
        if member.state is WorkerState.READY
    }


def _coarse(count: int) -> int:
    return 1 << count.bit_length() if count else 0
