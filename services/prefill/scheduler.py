"""Which prompts a prefill worker reads in one step. Pure: views and limits in, plans out."""

from dataclasses import dataclass

from common.core.ids import SequenceId
from common.engine.plan import BatchPlan, Extend, SequenceView, seniority


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillLimits:
    """`step_tokens` is the budget of one step, shared by prompts in order; it bounds how long a cancel waits.

    `chunk_tokens` is one prompt's share of it, so that its pages travel while its next chunk computes.
    """

    page_size: int
    step_tokens: int
    chunk_tokens: int
    max_prompts: int


def plan_admission(
    waiting: tuple[SequenceView, ...], *, num_active: int, available_pages: int, limits: PrefillLimits
) -> tuple[SequenceId, ...]:
    """Prompts that may begin now: only when all their pages fit, so that half-read prompts never wait for pages."""
    admitted: list[SequenceId] = []
    room = available_pages
    for view in sorted(waiting, key=seniority):
        pages = -(-view.num_tokens // limits.page_size)
        if pages > room or num_active + len(admitted) >= limits.max_prompts:
            break
        room -= pages
        admitted.append(view.id)
    return tuple(admitted)


def plan_step(active: tuple[SequenceView, ...], *, limits: PrefillLimits) -> BatchPlan:
    """Fill the token budget in order of urgency; a long prompt goes on in the next step."""
    budget = limits.step_tokens
    extend: list[Extend] = []
    for view in sorted(active, key=seniority):
        num_tokens = min(view.num_pending, limits.chunk_tokens, budget)
        if num_tokens == 0:
            break
        extend.append(Extend(sequence=view.id, num_tokens=num_tokens))
        budget -= num_tokens
    return BatchPlan(extend=tuple(extend))
