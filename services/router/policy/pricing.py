"""Whose timings a worker is judged by: its own, its peers', or the documented default."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from statistics import median

from common.core.cost.model import COEFFICIENTS, DEFAULT, CostModel
from common.core.ids import WorkerRef
from common.core.worker import Role
from services.router.policy.settings import PolicySettings
from services.router.view import WorkerView


class CostSource(StrEnum):
    """OWN: fitted to enough steps, not long ago. PEERS: the median of workers of its role that have an own model; a
    newcomer then looks like the others instead of like another machine. DEFAULT: nobody has one."""

    OWN = "own"
    PEERS = "peers"
    DEFAULT = "default"


Price = tuple[CostModel, CostSource]


def prices(workers: Sequence[WorkerView], settings: PolicySettings) -> Mapping[WorkerRef, Price]:
    """The model of every worker."""
    own = {worker.worker: (worker.load.cost, CostSource.OWN) for worker in workers if has_own(worker, settings)}
    if len(own) == len(workers):
        return own  # type: ignore[return-value]  # has_own: none of them is None
    fallback = {
        role: _of_peers([each for each in workers if each.role is role and each.worker in own]) for role in Role
    }
    return {
        worker.worker: own.get(worker.worker) or fallback[worker.role]  # type: ignore[misc]  # as above
        for worker in workers
    }


def has_own(worker: WorkerView, settings: PolicySettings) -> bool:
    """Whether its own timings can be believed."""
    cost = worker.load.cost
    return (
        cost is not None
        and cost.num_steps >= settings.min_cost_steps
        and cost.age_s + worker.silent_s <= settings.stale_cost_s
    )


def _of_peers(peers: Sequence[WorkerView]) -> Price:
    models = [peer.load.cost for peer in peers if peer.load.cost is not None]
    if not models:
        return DEFAULT, CostSource.DEFAULT
    if len(models) == 1:
        return models[0], CostSource.PEERS
    middle = {name: median(getattr(model, name) for model in models) for name in COEFFICIENTS}
    return CostModel(**middle, num_steps=min(model.num_steps for model in models)), CostSource.PEERS
