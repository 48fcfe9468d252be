"""What evens out among readers: tokens placed on each of them lately, as far as the others read as fast.

Beside answers a prompt is read in smaller chunks. Who writes most of the answers reads less, and rightly: to make it
read as much as those who write none would keep prompts waiting there while others could begin them.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from common.core.cost.model import CostModel
from common.core.ids import WorkerRef
from common.core.worker import Role
from services.router.policy.settings import PolicySettings
from services.router.view import WorkerView

SHORTEST_S = 1e-12
"""Chosen: timings may say that a token costs nothing."""


class Pace(NamedTuple):
    """Seconds that a worker takes now for one more token of a long prompt, and the tokens placed there lately."""

    token_s: float
    recent_tokens: float
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
    at this worker's pace. In one pass each way, since routers know hundreds of workers."""
    ordered = sorted(paces, key=lambda pace: pace.token_s)
    least = {pace.worker: pace.recent_tokens for pace in paces}
    slower_s = math.inf
    for pace in reversed(ordered):
        own_s = max(pace.token_s, SHORTEST_S)
        least[pace.worker] = min(least[pace.worker], slower_s / own_s)
        slower_s = min(slower_s, pace.recent_tokens * own_s)
    quicker = math.inf
    for pace in ordered:
        quicker = min(quicker, pace.recent_tokens)
        least[pace.worker] = min(least[pace.worker], quicker)
    return least
