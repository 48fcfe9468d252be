"""What decode workers lend to reading: the share of their step time that answers leave, as far as routers use it. Pure.

    spare(workers) = workers - workers * step_s / budget - (rows * decode_row_s + context * decode_context_s) / budget
    lent(workers)  = uptake * spare(workers)

`uptake` is measured while prompts wait, as only then a worker that does not read is one that does not lend: 0 where
routes keep reading on prefill, near 1 where costs decide. The budget is that of a step, `engine.itl_budget_ms`.
"""

import math
from dataclasses import dataclass

from common.core.cost.model import CostModel
from services.planner.load import Writing

LEARNING_S = 60.0
"""Chosen: time constant of uptake, in seconds with a queue: a few bursts."""

LEAST_SPARE = 0.1
"""Chosen: of less spare time no share can be measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What running answers take of decode's step time. `fixed`: share that every writing worker loses; `taken`:
    workers' worth that rows and their context take, over all workers."""

    fixed: float = 0.0
    taken: float = 0.0

    def spare(self, workers: int, *, scale: float = 1.0) -> float:
        """Workers' worth left for reading on so many, with `scale` of these answers."""
        return max(0.0, workers * (1.0 - self.fixed) - self.taken * scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Uptake:
    """`share` of the spare time that was used while prompts waited; `seen_s`: for how long that was watched."""

    share: float = 0.0
    seen_s: float = 0.0

    def watched(self, read_s: float, spare: float, seconds: float) -> "Uptake":
        """After `seconds` with a queue in which decode workers read `read_s` per second."""
        if spare < LEAST_SPARE:
            return self
        seen_s = self.seen_s + seconds
        weight = max(seconds / seen_s, 1.0 - math.exp(-seconds / LEARNING_S))
        return Uptake(share=self.share + weight * (min(1.0, read_s / spare) - self.share), seen_s=seen_s)


def answers_of(writing: Writing, cost: CostModel, budget_s: float) -> Answers:
    """Those that run now."""
    if not writing.running:
        return Answers()
    taken_s = cost.decode_row_s * writing.running + cost.decode_context_s * writing.context_tokens
    return Answers(fixed=min(1.0, cost.step_s / budget_s), taken=taken_s / budget_s)
