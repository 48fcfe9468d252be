"""What it costs to fetch the beginning of a prompt from whoever has it cached, instead of reading it."""

from dataclasses import dataclass

from common.core.cost.model import DEFAULT
from common.core.ids import WorkerRef
from common.core.worker import Role
from services.router.policy.scene import Scene
from services.router.view import WorkerView


@dataclass(frozen=True, slots=True)
class Fetching:
    """`held`: leading tokens that the worker has afterwards. `copied_s`: what later requests lose by the copy."""

    holder: WorkerRef
    held: int
    seconds: float
    copied_s: float


def fetch_to(worker: WorkerView, scene: Scene) -> Fetching | None:
    """None where nobody has more of the prompt than the worker itself."""
    facts, holder = scene.facts, scene.holder
    if holder is None or holder.worker == worker.worker:
        return None
    held = facts.cached_tokens(holder.worker.worker) // facts.page_size * facts.page_size
    num_pages = (held - facts.cached_tokens(worker.worker.worker)) // facts.page_size
    if num_pages <= 0:
        return None
    cost = scene.cost(worker)
    seconds = cost.transfer_seconds(num_pages * scene.view.page_bytes) + HOLDER_STEPS * _step_s(holder, scene)
    free = max(worker.load.pages.free - worker.sent_pages, 0)
    evicted_tokens = max(num_pages - free, 0) * facts.page_size
    copied_s = scene.settings.reuse_share * cost.extend_seconds(evicted_tokens) * scene.congestion
    return Fetching(holder=holder.worker, held=held, seconds=seconds, copied_s=copied_s)


HOLDER_STEPS = 2
"""It finds the pages between two of them, and the reader lands them between two of its own, which are about as long."""


def _step_s(holder: WorkerView, scene: Scene) -> float:
    """How long its steps take at the moment: whatever it is asked waits for the end of one."""
    cost, settings, facts = holder.load.cost or DEFAULT, scene.settings, scene.facts
    context = holder.context_tokens(facts.page_size)
    if holder.role is not Role.DECODE:
        step_s, most = cost.step_s if holder.backlog_tokens else 0.0, settings.prefill_chunk_tokens
    elif holder.num_answers:
        step_s = cost.decode_step_seconds(holder.num_answers, context)
        most = cost.chunk_tokens(itl_s=settings.extend_itl_s, decode_step_s=step_s, most=settings.extend_tokens)
    else:
        step_s, most = 0.0, settings.idle_extend_tokens
    return step_s + cost.extend_token_s * min(holder.backlog_tokens, most)
