"""What all routers and workers together say about queues: the signals that autoscaling reads. Pure.

Routers tell of requests that no worker has yet, workers of those they have: nothing is in two reports, and each report
is a lease, so a router that died is not counted for long. None is unknown and never zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from common.core.queue import Cause, QueueDepth
from common.core.worker import Member, Role, WorkerState
from common.directory.codec import QueueView


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleTotals:
    """One role. `queue_s`: the longest predicted wait at any router that has somebody waiting; None when one of those
    does not know. `worker_tokens`: prompt tokens that wait on the workers themselves."""

    role: Role
    num_workers: int
    requests: int
    uncached_tokens: int
    queue_s: float | None
    causes: frozenset[Cause]
    worker_requests: int
    worker_tokens: int
    outstanding_exports: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueTotals:
    """The cluster at one moment. `decode_admission_s`: the mean over the routers that placed somebody lately."""

    num_routers: int
    roles: tuple[RoleTotals, ...]
    decode_admission_s: float | None


def queue_totals(views: Sequence[QueueView] | None, members: Sequence[Member]) -> QueueTotals | None:
    """None when the board could not be read, or no router is on it: then nothing is known about who waits."""
    if not views:
        return None
    known = [view.report.decode_admission_s for view in views if view.report.decode_admission_s is not None]
    return QueueTotals(
        num_routers=len(views),
        roles=tuple(_of_role(role, views, members) for role in Role),
        decode_admission_s=sum(known) / len(known) if known else None,
    )


def _of_role(role: Role, views: Sequence[QueueView], members: Sequence[Member]) -> RoleTotals:
    depths = [depth for view in views for depth in view.report.depths if depth.role is role]
    loads = [member.load for member in members if member.role is role and member.state is WorkerState.READY]
    return RoleTotals(
        role=role,
        num_workers=len(loads),
        requests=sum(depth.requests for depth in depths),
        uncached_tokens=sum(depth.uncached_tokens for depth in depths),
        queue_s=_longest(depths),
        causes=frozenset(depth.cause for depth in depths if depth.cause is not None),
        worker_requests=sum(load.waiting_requests for load in loads),
        worker_tokens=sum(load.waiting_tokens for load in loads),
        outstanding_exports=sum(load.outstanding_exports for load in loads),
    )


def _longest(depths: Sequence[QueueDepth]) -> float | None:
    waits = [depth.queue_s for depth in depths if depth.requests]
    known = [wait for wait in waits if wait is not None]
    return max(known, default=0.0) if len(known) == len(waits) else None
