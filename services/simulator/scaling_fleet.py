"""Machines that come and go: off -> starting -> ready -> draining -> off. The router sees those that are ready."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from common.core.ids import WorkerId
from common.core.worker import Role
from services.router.view import FleetView
from services.simulator.fleet import SeenFleet


class Phase(StrEnum):
    """Of one machine."""

    OFF = "off"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


PAID = frozenset({Phase.STARTING, Phase.READY, Phase.DRAINING})
"""A machine costs from the decision to start it until it is empty."""


class ScaledFleet(SeenFleet):
    """The router's view, of ready machines only."""

    ready: frozenset[WorkerId] = frozenset()

    def view(self, now: float) -> FleetView:
        whole = super().view(now)
        workers = tuple(worker for worker in whole.workers if worker.worker.worker in self.ready)
        return FleetView(workers=workers, now=now, page_bytes=whole.page_bytes)

    def hits(self, pages: Sequence[int], page_size: int) -> Mapping[WorkerId, int]:
        found = super().hits(pages, page_size)
        return {worker: tokens for worker, tokens in found.items() if worker in self.ready}

    def is_empty(self, worker: WorkerId) -> bool:
        """Nothing that was sent there is under way."""
        return self._standings[worker].in_flight == 0


@dataclass(slots=True)
class Roster:
    """Which machine is in which phase. Writer: the scaled play. Machines that come back have their old cache."""

    roles: Mapping[WorkerId, Role]
    phases: dict[WorkerId, Phase] = field(default_factory=dict)
    paid_s: float = 0.0
    _since: float = 0.0

    def of(self, role: Role, phases: Collection[Phase]) -> list[WorkerId]:
        return [name for name, phase in self.phases.items() if phase in phases and self.roles[name] is role]

    def count(self, role: Role) -> int:
        """As a Deployment counts its replicas: what starts and what is ready."""
        return len(self.of(role, (Phase.STARTING, Phase.READY)))

    def pay(self, now: float) -> None:
        """Bring the bill up to `now`: before every change."""
        self.paid_s += (now - self._since) * sum(phase in PAID for phase in self.phases.values())
        self._since = now

    @property
    def ready(self) -> frozenset[WorkerId]:
        return frozenset(name for name, phase in self.phases.items() if phase is Phase.READY)
