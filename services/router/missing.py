"""Workers that went without a word and left their place empty: whom an operator should look for."""

from collections.abc import Iterable
from dataclasses import dataclass

from common.core.clock import Clock
from common.core.ids import WorkerRef
from common.core.worker import Role
from services.router.standing import Standing

KEPT_S = 12 * 3600.0
"""Chosen: a night. Who was not looked for until then is not missed."""

MAX_MISSING = 256
"""Chosen: more than go at once where somebody still asks for names. Beyond it those that went first are forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """An incarnation that did not say that it leaves. `heard_at`: its last message, in monotonic seconds."""

    worker: WorkerRef
    role: Role
    heard_at: float


class MissingWorkers:
    """Writer: the fleet. One that comes back under its name is not missing, nor is one in whose place another came."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._missing: list[Missing] = []

    def lost(self, gone: Standing) -> None:
        """It is neither heard nor listed any more."""
        if not gone.is_leaving:
            self._missing.append(Missing(worker=gone.worker, role=gone.role, heard_at=gone.heard_at))
            self._missing.sort(key=lambda missing: missing.heard_at)
            del self._missing[:-MAX_MISSING]

    def settle(self, present: Iterable[Standing]) -> None:
        """Whoever is here stands in for at most one that is missing."""
        if not self._missing:
            return
        here = {standing.worker.worker: standing for standing in present}
        back = {missing.worker.worker for missing in self._missing} & here.keys()
        for name in back:
            here[name].stands_in = True
        oldest = self._clock.monotonic() - KEPT_S
        recent = [each for each in self._missing if each.heard_at > oldest and each.worker.worker not in back]
        self._missing = [each for each in recent if not _is_replaced(each, here.values())]

    def list(self) -> tuple[Missing, ...]:
        """Those that went first come first."""
        return tuple(self._missing)


def _is_replaced(missing: Missing, here: Iterable[Standing]) -> bool:
    """Pods are replaced under new names, often before the lease of the old one ends."""
    for standing in here:
        if standing.role is missing.role and standing.first_seen > missing.heard_at and not standing.stands_in:
            standing.stands_in = True
            return True
    return False
