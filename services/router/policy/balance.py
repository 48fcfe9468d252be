"""What evens out among readers: tokens placed on each of them lately, as far as the others read as fast.

Beside answers a prompt is read in smaller chunks. Who writes most of the answers reads less, and rightly: to make it
read as much as those who write none would keep prompts waiting there while others could begin them.
"""

from collections.abc import Sequence
from typing import NamedTuple

from common.core.cost.model import CostModel
from common.core.ids import WorkerRef
from common.core.worker import Role
from services.router.policy.settings import PolicySettings
from services.router.view import WorkerView

SHORTEST_S = 1e-12
"""Chosen: timings may say that a token costs nothing."""

MAX_FOREMOST = 16
"""Chosen: twice as many as there are among eight workers, and few enough for a decision among hundreds."""


class Pace(NamedTuple):
    """Seconds that a worker takes now for one more token of a long prompt, and at its best; tokens placed there lately,
    and seconds until it has read what is there."""

    token_s: float
    best_token_s: float
    recent_tokens: float
    queue_s: float
    worker: WorkerRef


def alone_token_s(cost: CostModel, chunk_tokens: int) -> float:
    """One token's part of a step that reads as much as it can."""
    return cost.extend_token_s + cost.step_s / max(chunk_tokens, 1)


def beside_token_s(cost: CostModel, settings: PolicySettings, *, decode_step_s: float) -> float:
    """The same beside answers whose own step takes so long, in the chunks that their time between tokens allows."""
    chunk = cost.chunk_tokens(itl_s=settings.extend_itl_s, decode_step_s=decode_step_s, most=settings.extend_tokens)
    return cost.extend_token_s + decode_step_s / max(chunk, 1)


def token_s(worker: WorkerView, cost: CostModel, settings: PolicySettings, page_size: int) -> float:
    """As the worker reads now."""
    if worker.role is not Role.DECODE:
        return alone_token_s(cost, settings.prefill_chunk_tokens)
    if not worker.num_answers:
        return alone_token_s(cost, settings.idle_extend_tokens)
    step_s = cost.decode_step_seconds(worker.num_answers, worker.context_tokens(page_size))
    return beside_token_s(cost, settings, decode_step_s=step_s)


def least_recent(paces: Sequence[Pace]) -> dict[WorkerRef, float]:
    """For each worker the tokens of its least loaded peer: of one that reads more slowly, as many as it would have read
    at this worker's pace; and on top what it could read in the time by which the peer's queue is longer. Who was given
    less lately and has more to read than this worker is no reason to send a prompt there."""
    peers = _foremost(paces)
    return {each.worker: _least_seen_by(each, peers) for each in paces}


def _least_seen_by(own: Pace, peers: Sequence[Pace]) -> float:
    """`peers` in order of what they were given: nobody seems to have been given less than it was."""
    own_s, best_s = max(own.token_s, SHORTEST_S), max(own.best_token_s, SHORTEST_S)
    least = own.recent_tokens
    for peer in peers:
        if peer.recent_tokens >= least:
            break
        slower, later_s = max(1.0, peer.token_s / own_s), max(0.0, peer.queue_s - own.queue_s)
        least = min(least, peer.recent_tokens * slower + later_s / best_s)
    return least


def _foremost(paces: Sequence[Pace]) -> list[Pace]:
    """Those that another one may see as the least: nobody was given less who reads as fast and is as free. A few, since
    routers know hundreds of workers."""
    found: list[Pace] = []
    for pace in sorted(paces, key=_given_least):
        if not any(each.token_s <= pace.token_s and each.queue_s <= pace.queue_s for each in found):
            found.append(pace)
            if len(found) == MAX_FOREMOST:
                break
    return found


def _given_least(pace: Pace) -> tuple[float, float, float, str]:
    return pace.recent_tokens, pace.token_s, pace.queue_s, pace.worker.worker
