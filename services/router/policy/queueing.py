"""How long a worker takes to read: a prompt of its own, or all that are ahead of a new one."""

from common.core.cost.model import CostModel, LocalExtend
from common.core.worker import Role
from services.router.policy.settings import PolicySettings
from services.router.view import WorkerView


def num_answers(worker: WorkerView) -> int:
    """Sequences whose steps a prompt would join."""
    return worker.num_answers if worker.role is Role.DECODE else 0


def queue_seconds(worker: WorkerView, cost: CostModel, settings: PolicySettings, page_size: int) -> float:
    """Until the prompts ahead are read. How long each is, nobody told: as many equal ones as wait."""
    tokens = worker.backlog_tokens
    if not tokens:
        return 0.0
    num_prompts = max(1, worker.backlog_prompts)
    each = reading_on(worker, cost, settings, page_size, new_tokens=-(-tokens // num_prompts))
    return each.seconds * num_prompts


def reading_on(
    worker: WorkerView,
    cost: CostModel,
    settings: PolicySettings,
    page_size: int,
    *,
    new_tokens: int,
    cached_tokens: int = 0,
) -> LocalExtend:
    """One prompt, beside the answers that the worker has now."""
    if worker.role is not Role.DECODE:
        seconds = cost.prefill_seconds(new_tokens, cached_tokens, chunk_tokens=settings.prefill_chunk_tokens)
        return LocalExtend(seconds=seconds, step_s=0.0, added_s=0.0)
    return cost.local_extend(
        new_tokens,
        cached_tokens,
        batch=num_answers(worker),
        context_tokens=worker.context_tokens(page_size),
        itl_s=settings.extend_itl_s,
        chunk_tokens=settings.extend_tokens,
        idle_chunk_tokens=settings.idle_extend_tokens,
    )
