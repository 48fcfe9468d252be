"""What one decision knows: the request, the fleet, and what is compared across workers, computed once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from common.core.cost.model import CostModel
from common.core.ids import WorkerRef
from common.core.worker import Role
from services.router.classify import Facts
from services.router.policy.balance import Pace, least_recent, token_s
from services.router.policy.pricing import Price, prices
from services.router.policy.queueing import queue_seconds
from services.router.policy.settings import PolicySettings
from services.router.recent import RECENT_S
from services.router.view import FleetView, WorkerView

MAX_RHO = 0.8
AVOID_S = 3600.0
"""Chosen: more than any real cost, so that a worker which failed the request is a last resort and still a resort."""


@dataclass(frozen=True, slots=True)
class Scene:
    """`readers` may read the prompt for another worker, refused ones included; `writers` can take it now."""

    facts: Facts
    view: FleetView
    settings: PolicySettings
    readers: Sequence[WorkerView]
    writers: Sequence[WorkerView]
    prices: Mapping[WorkerRef, Price]
    queue_s: Mapping[WorkerRef, float]
    """Until what is ahead of a new prompt is read."""
    least_recent: Mapping[WorkerRef, float]
    """Tokens that its least loaded peer was given lately, at the worker's own pace, and what it has to read first."""
    oldest_s: Mapping[Role, float]
    holder: WorkerView | None
    """Who has most of the prompt cached, where workers fetch from each other."""
    congestion: float
    usual_answers: float
    """Mean over the decode workers."""
    usual_waiting: float
    """Prompts that wait for a reader, mean over all of them."""

    @property
    def answer_tokens(self) -> int:
        """How long the answer may become: as answers are of late, if they were told."""
        return self._within_limit(self.facts.answer_tokens or self.settings.expected_tokens)

    @property
    def writing_tokens(self) -> int:
        """How long a worker that begins to write goes on with it, in tokens of one answer."""
        return self._within_limit(self.settings.expected_tokens)

    def _within_limit(self, tokens: int) -> int:
        return min(self.facts.max_tokens, tokens) if self.facts.max_tokens else tokens

    def cost(self, worker: WorkerView) -> CostModel:
        return self.prices[worker.worker][0]

    def shared_s(self, worker: WorkerView) -> dict[str, float]:
        """What speaks against a worker whatever it is to do: young, silent, or it failed this request before."""
        return {
            "young": self._young_s(worker),
            "silent": max(0.0, worker.silent_s - self.settings.silence_s),
            "avoid": AVOID_S if worker.worker in self.facts.avoid else 0.0,
        }

    def _young_s(self, worker: WorkerView) -> float:
        """Slow start: who joins late is ramped up, for as long as it came behind the first. Who came with the others
        is no newcomer: a tenth of a second between them would send a fresh cluster's whole load to the first."""
        ramp_s = min(self.settings.slow_start_s, self.oldest_s[worker.role] - worker.age_s)
        share = 1.0 if ramp_s <= 0 else min(worker.age_s / ramp_s, 1.0)
        return (1.0 - share) * self.settings.slow_start_penalty_s


def make_scene(facts: Facts, view: FleetView, settings: PolicySettings) -> Scene:
    """Everybody who is eligible and serves the request's class."""
    workers = [worker for worker in view.workers if worker.is_eligible and worker.pool in ("", facts.priority.value)]
    priced = prices(workers, settings)
    queues = {each.worker: queue_seconds(each, priced[each.worker][0], settings, facts.page_size) for each in workers}
    readers = [worker for worker in workers if worker.role is Role.PREFILL or worker.is_dual]
    writers = [worker for worker in workers if worker.role is Role.DECODE and _can_write(worker, facts, settings)]
    oldest: dict[Role, float] = {}
    for worker in workers:
        oldest[worker.role] = max(oldest.get(worker.role, 0.0), worker.age_s)
    return Scene(
        facts=facts,
        view=view,
        settings=settings,
        readers=readers,
        writers=writers,
        prices=priced,
        queue_s=queues,
        least_recent=_least_recent(workers, priced, queues, facts, view, settings),
        oldest_s=oldest,
        congestion=_congestion(readers or workers, priced, view),
        usual_answers=fmean([worker.num_answers for worker in workers if worker.role is Role.DECODE] or [0]),
        usual_waiting=fmean([worker.backlog_prompts for worker in readers or workers] or [0]),
        holder=_holder(facts, view) if view.can_fetch else None,
    )


def _least_recent(
    workers: Sequence[WorkerView],
    priced: Mapping[WorkerRef, Price],
    queues: Mapping[WorkerRef, float],
    facts: Facts,
    view: FleetView,
    settings: PolicySettings,
) -> dict[WorkerRef, float]:
    """Among workers of one role."""
    paces: dict[Role, list[Pace]] = {}
    for worker in workers:
        cost = priced[worker.worker][0]
        pace = Pace(
            token_s=token_s(worker, cost, settings, facts.page_size),
            best_token_s=cost.extend_token_s,
            recent_tokens=worker.recent(view.now),
            queue_s=queues[worker.worker],
            worker=worker.worker,
        )
        paces.setdefault(worker.role, []).append(pace)
    return {worker: least for peers in paces.values() for worker, least in least_recent(peers).items()}


def can_take(worker: WorkerView, facts: Facts) -> bool:
    """Whether a decode worker would promise the pages now, as far as this router can tell."""
    has_place = worker.num_places >= facts.num_choices
    return worker.has_room and has_place and worker.available_pages >= facts.num_pages


def _can_write(worker: WorkerView, facts: Facts, settings: PolicySettings) -> bool:
    """And whether one more answer leaves everybody's time between tokens within the class's target."""
    return can_take(worker, facts) and worker.num_sequences + facts.num_choices <= max_batch(worker, facts, settings)


def max_batch(worker: WorkerView, facts: Facts, settings: PolicySettings) -> int:
    """Answers side by side that the class's time between tokens allows. Only the worker's own timings limit it."""
    cost, running = worker.load.cost, max(worker.load.running_sequences, 1)
    if cost is None or cost.num_steps < settings.min_cost_steps:
        return 1_000_000
    each = (worker.context_tokens(facts.page_size) + facts.context_tokens) / (running + 1)
    return max(settings.min_batch, cost.max_batch(settings.itl_s[facts.priority], each))


def _congestion(readers: Sequence[WorkerView], priced: Mapping[WorkerRef, Price], view: FleetView) -> float:
    """By how much a second of reading keeps others waiting: 1 / (1 - rho), as in a queue of random arrivals.

    rho is the share of lately that reading took.
    """
    if not readers:
        return 1.0
    busy_s = sum(priced[each.worker][0].extend_token_s * each.recent(view.now) for each in readers)
    rho = min(busy_s / (len(readers) * RECENT_S), MAX_RHO)
    return 1.0 / (1.0 - rho)


def _holder(facts: Facts, view: FleetView) -> WorkerView | None:
    """Who holds most of the prompt: one that drains lends as well, one that has yet to read it or failed the request
    does not. Ties to the lower id."""
    able = [worker for worker in view.workers if worker.is_heard and worker.worker not in facts.avoid]
    heard = [worker for worker in able if _lent_tokens(worker, facts)]
    return max(heard, key=lambda worker: facts.cached_tokens(worker.worker.worker), default=None)


def _lent_tokens(worker: WorkerView, facts: Facts) -> int:
    return 0 if worker.worker.worker in facts.awaited else facts.cached_tokens(worker.worker.worker)
