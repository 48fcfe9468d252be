"""Which prompts a prefill worker reads in one step. Pure: views and limits in, plans out."""

from dataclasses import dataclass

from common.core.ids import SequenceId
from common.engine.plan import BatchPlan, Extend, SequenceView, reserve_of
from common.engine.turns import NOTHING, Given, in_turns, is_owed


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
    waiting: tuple[SequenceView, ...],
    *,
    num_active: int,
    available_pages: int,
    limits: PrefillLimits,
    given: Given = NOTHING,
) -> tuple[SequenceId, ...]:
    """Prompts that may begin now: only when all their pages fit, so that half-read prompts never wait for pages.

    A lower class leaves some places and pages to those above it, as long as anything is being read.
    """
    admitted: list[SequenceId] = []
    room = available_pages
    for view in in_turns(waiting, given):
        pages = -(-view.num_tokens // limits.page_size)
        num_reading = num_active + len(admitted)
        kept_pages = reserve_of(view.priority, available_pages) if num_reading else 0
        kept_places = reserve_of(view.priority, limits.max_prompts) if num_reading else 0
        if pages > room - kept_pages or num_reading >= limits.max_prompts - kept_places:
            break
        room -= pages
        admitted.append(view.id)
    return tuple(admitted)


def plan_step(active: tuple[SequenceView, ...], *, limits: PrefillLimits, given: Given = NOTHING) -> BatchPlan:
    """Fill the token budget class by class, whoever was given least before the others; a long prompt goes on in the
    next step. What is owed to its tenant, or is of a higher class, does not wait for more than a chunk's step."""
    spent = 0
    extend: list[Extend] = []
    order = in_turns(active, given, most=limits.chunk_tokens)
    for view in order:
        is_second = is_owed(order[0], view, given, lead=limits.step_tokens)
        budget = min(limits.chunk_tokens, limits.step_tokens) if is_second else limits.step_tokens
        num_tokens = min(view.num_pending, limits.chunk_tokens, budget - spent)
        if num_tokens <= 0:
            break
        extend.append(Extend(sequence=view.id, num_tokens=num_tokens))
        spent += num_tokens
    return BatchPlan(extend=tuple(extend))
