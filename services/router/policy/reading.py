"""What it costs to let a worker read the prompt."""

import math
from dataclasses import dataclass

from common.core.ids import WorkerRef
from common.core.worker import Role
from services.router.policy.fetching import Fetching, fetch_to
from services.router.policy.queueing import num_answers, reading_on
from services.router.policy.scene import Scene
from services.router.view import WorkerView


@dataclass(frozen=True, slots=True)
class Reading:
    """`seconds` from now until the first token. `held`: leading tokens that are not read here, fetched ones included.
    `source`: whose cached pages come first."""

    worker: WorkerView
    terms: dict[str, float]
    seconds: float
    queue_s: float
    read_s: float
    step_s: float
    held: int
    source: WorkerRef | None

    @property
    def rank(self) -> tuple[float, str]:
        return sum(self.terms.values()), self.worker.worker.worker


def read_on(worker: WorkerView, scene: Scene) -> Reading:
    """After fetching what another has of the prompt, or without: whichever costs less, everybody's time included."""
    own, fetching = _reading(worker, scene, None), fetch_to(worker, scene)
    if fetching is None:
        return own
    return min(own, _reading(worker, scene, fetching), key=_rank)


def _reading(worker: WorkerView, scene: Scene, fetching: Fetching | None) -> Reading:
    """Queue, the prompt's uncached tokens, what the worker's own answers suffer, and the balance among readers."""
    facts, settings, cost = scene.facts, scene.settings, scene.cost(worker)
    cached = facts.cached_tokens(worker.worker.worker) if fetching is None else fetching.held
    queue_s, new_tokens = scene.queue_s[worker.worker], facts.context_tokens - cached
    own = reading_on(worker, cost, settings, facts.page_size, new_tokens=new_tokens, cached_tokens=cached)
    recent = worker.recent(scene.view.now) - scene.least_recent[worker.worker]
    terms = {
        "queue": settings.queue_weight * queue_s,
        "read": own.seconds,
        "fetch": 0.0 if fetching is None else fetching.seconds,
        "copied": 0.0 if fetching is None else fetching.copied_s,
        "others": settings.others_weight * scene.congestion * cost.extend_seconds(new_tokens, cached),
        "neighbours": (settings.dual_damage_weight if worker.is_dual else settings.damage_weight)
        * own.added_s
        * _answers_then(worker, queue_s, scene),
        "balance": settings.balance_weight * cost.extend_token_s * recent,
        **scene.shared_s(worker),
    }
    return Reading(
        worker=worker,
        terms=terms,
        seconds=queue_s + terms["fetch"] + own.seconds,
        queue_s=queue_s,
        read_s=own.seconds,
        step_s=own.step_s,
        held=cached,
        source=None if fetching is None else fetching.holder,
    )


def _rank(reading: Reading) -> tuple[float, str]:
    return reading.rank


def with_lateness(readings: dict[WorkerRef, Reading], scene: Scene) -> dict[WorkerRef, Reading]:
    """Queues longer than another's cost more than their seconds. A hit is worth some wait, as far as the other has less
    of the prompt: who has as much, or fetches it, and is sooner leaves no reason to wait.
    """
    patience_s = {ref: _patience_s(reading, scene) for ref, reading in readings.items()}
    least_first = sorted(readings, key=lambda ref: (patience_s[ref], -readings[ref].queue_s))
    soonest_s = math.inf
    for ref in least_first:  # against all who have less: each one's queue, and what its hit falls short
        reading = readings[ref]
        soonest_s = min(soonest_s, reading.queue_s - patience_s[ref])
        reading.terms["late"] = reading.queue_s - patience_s[ref] - soonest_s
    soonest_s = math.inf
    for ref in reversed(least_first):  # against all who have as much
        reading = readings[ref]
        soonest_s = min(soonest_s, reading.queue_s)
        reading.terms["late"] = max(reading.terms["late"], reading.queue_s - soonest_s)
    return readings


def _patience_s(reading: Reading, scene: Scene) -> float:
    """What a hit on this worker is worth of waiting."""
    return scene.settings.patience_s * reading.held / max(scene.facts.context_tokens, 1)


def _answers_then(worker: WorkerView, queue_s: float, scene: Scene) -> float:
    """Answers that the prompt will hold up when its turn comes, and one more: an idle decode worker will have some.
    Those of now fade, others come as everywhere."""
    if worker.role is not Role.DECODE:
        return 0.0
    usual = scene.usual_answers
    return 1.0 + usual + (num_answers(worker) - usual) * math.exp(-queue_s / scene.settings.answers_fade_s)
