"""Signals out of the directory. Pure, but for a memory of when each incarnation was first seen."""

from collections.abc import Mapping, Sequence
from statistics import median

from common.core.cost.model import COEFFICIENTS, CostModel
from common.core.ids import WorkerRef
from common.core.worker import LoadReport, Member, Role, WorkerState
from common.directory.queue_totals import RoleTotals, queue_totals
from common.directory.sighting import Sighting
from services.planner.load import Crew, Load, Reading, Signals, Writing

MIN_STEPS = 32
"""As the router trusts a cost model: fewer steps are a start, not a speed."""


class Watch:
    """Turns sightings into signals. Writer: the planner's loop. A worker is cold for `start_s` after it was first seen;
    those that were there at the first sighting are warm."""

    def __init__(self, *, start_s: float) -> None:
        self._start_s = start_s
        self._first_seen: dict[WorkerRef, float] | None = None

    def signals(self, sighting: Sighting | None, now: float) -> Signals:
        if sighting is None:
            return Signals(at=now, load=None)
        seen = self._first_seen
        first = float("-inf") if seen is None else now
        # Whoever left is forgotten, so this is as long as the directory.
        self._first_seen = {
            member.worker: (seen or {}).get(member.worker, first)
            for member in sighting.members
            if member.state is WorkerState.READY
        }
        warm_since = now - self._start_s
        warm = frozenset(worker for worker, since in self._first_seen.items() if since <= warm_since)
        return Signals(at=now, load=load_of(sighting, warm))


def load_of(sighting: Sighting, warm: frozenset[WorkerRef]) -> Load | None:
    """None while no router tells of its queue: nobody knows then who waits."""
    totals = queue_totals(sighting.queues, sighting.members)
    if totals is None:
        return None
    by_role = {each.role: each for each in totals.roles}
    return Load(
        reading=_reading(sighting.members, by_role, warm),
        writing=_writing(sighting.members, by_role, totals.decode_admission_s, warm),
    )


def _reading(members: Sequence[Member], by_role: Mapping[Role, RoleTotals], warm: frozenset[WorkerRef]) -> Reading:
    loads, totals = _loads(members, Role.PREFILL), by_role[Role.PREFILL]
    backlog = totals.uncached_tokens + totals.worker_tokens
    # Prompts that are being read have tokens in the backlog as well.
    waiting = totals.requests + totals.worker_requests + sum(load.running_sequences for load in loads.values())
    return Reading(
        crew=_crew(members, Role.PREFILL, warm),
        backlog_tokens=backlog,
        read_tokens_s=sum(load.tokens_per_second for load in loads.values()),
        local_backlog_tokens=by_role[Role.DECODE].worker_tokens,
        local_read_tokens_s=sum(load.read_tokens_per_second for load in _loads(members, Role.DECODE).values()),
        tokens_each=backlog / waiting if waiting else None,
        queue_s=totals.queue_s,
        causes=totals.causes,
        cost=_cost(loads, warm),
    )


def _writing(
    members: Sequence[Member],
    totals: Mapping[Role, RoleTotals],
    admission_s: float | None,
    warm: frozenset[WorkerRef],
) -> Writing:
    loads = _loads(members, Role.DECODE)
    queued, running = totals[Role.DECODE].requests, sum(load.running_sequences for load in loads.values())
    waiting = sum(load.waiting_requests for load in loads.values())
    return Writing(
        crew=_crew(members, Role.DECODE, warm),
        sequences=running + waiting + queued,
        running=running,
        queued=queued,
        context_tokens=sum(load.context_tokens for load in loads.values()),
        pages_used=sum(load.pages.referenced + load.pages.promised for load in loads.values()),
        pages_each=round(median([load.pages.total for load in loads.values()])) if loads else 0,
        places_each=round(median([load.max_sequences for load in loads.values()])) if loads else 0,
        admission_s=admission_s,
        causes=totals[Role.DECODE].causes,
        cost=_cost(loads, warm),
    )


def _loads(members: Sequence[Member], role: Role) -> dict[WorkerRef, LoadReport]:
    """Of the workers that hold work, draining ones included."""
    return {
        member.worker: member.load
        for member in members
        if member.role is role and member.state in (WorkerState.READY, WorkerState.DRAINING)
    }


def _crew(members: Sequence[Member], role: Role, warm: frozenset[WorkerRef]) -> Crew:
    mine = [member for member in members if member.role is role]
    ready = [member for member in mine if member.state is WorkerState.READY]
    num_warm = sum(member.worker in warm for member in ready)
    draining = sum(member.state is WorkerState.DRAINING for member in mine)
    return Crew(ready=num_warm, starting=len(mine) - draining - num_warm, draining=draining)


def _cost(loads: Mapping[WorkerRef, LoadReport], warm: frozenset[WorkerRef]) -> CostModel | None:
    """The median of each coefficient over warm workers that fitted enough steps."""
    known = [
        load.cost
        for worker, load in loads.items()
        if worker in warm and load.cost is not None and load.cost.num_steps >= MIN_STEPS
    ]
    if not known:
        return None
    middle = {name: median([getattr(each, name) for each in known]) for name in COEFFICIENTS}
    return CostModel(**middle, num_steps=min(each.num_steps for each in known))
