"""Which sequences a decode worker steps. Pure: views and limits in, plans out.

Order everywhere: class first, then age. The oldest sequence is never preempted, so one always finishes; a preempted one
keeps its age, so it is the next to come back.
"""

from dataclasses import dataclass

from common.core.ids import SequenceId
from common.engine.plan import BatchPlan, Extend, SequenceView, seniority
from common.engine.turns import NOTHING, Given, in_turns


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeLimits:
    """`extend_tokens` of local prompts may join a step in which others decode; `idle_extend_tokens` when none do.

    `watermark_pages` stay out of reach of admission, so that running sequences can grow before they must preempt.
    """

    page_size: int
    max_sequences: int
    extend_tokens: int
    idle_extend_tokens: int
    watermark_pages: int


def plan_admission(
    waiting: tuple[SequenceView, ...],
    *,
    num_active: int,
    available_pages: int,
    limits: DecodeLimits,
    given: Given = NOTHING,
) -> tuple[SequenceId, ...]:
    """Waiting sequences that may begin now. Stops at the first that does not fit: nobody overtakes for ever."""
    admitted: list[SequenceId] = []
    room = available_pages - (limits.watermark_pages if num_active else 0)
    for view in in_turns(waiting, given):
        pages = -(-(view.num_tokens + 1) // limits.page_size)
        if pages > room or num_active + len(admitted) >= limits.max_sequences:
            break
        room -= pages
        admitted.append(view.id)
    return tuple(admitted)


def plan_step(
    active: tuple[SequenceView, ...], *, available_pages: int, limits: DecodeLimits, given: Given = NOTHING
) -> BatchPlan:
    """Every decoding sequence gets one token; local prompts share the budget; the youngest make room."""
    queue = sorted(active, key=seniority)
    grants = _grants(active, limits, given)
    room = available_pages
    preempt: list[SequenceId] = []
    extend: list[Extend] = []
    decode: list[SequenceId] = []
    while queue:
        view = queue.pop(0)
        num_tokens = 1 if view.is_decoding else grants.get(view.id, 0)
        if num_tokens == 0:
            continue
        pages = view.pages_to_grow(num_tokens, limits.page_size)
        while pages > room and queue:
            victim = queue.pop()
            preempt.append(victim.id)
            room += victim.private_pages
        if pages > room:
            continue
        room -= pages
        if view.is_decoding:
            decode.append(view.id)
        else:
            extend.append(Extend(sequence=view.id, num_tokens=num_tokens))
    return BatchPlan(preempt=tuple(preempt), extend=tuple(extend), decode=tuple(decode))


def _grants(active: tuple[SequenceView, ...], limits: DecodeLimits, given: Given) -> dict[SequenceId, int]:
    """Tokens that local prompts may compute in this step: of a class, the tenant that was given least comes first. Who
    gets none is absent."""
    prompts = [view for view in active if not view.is_decoding]
    grants: dict[SequenceId, int] = {}
    if not prompts:
        return grants
    budget = limits.extend_tokens if len(prompts) < len(active) else limits.idle_extend_tokens
    for view in in_turns(prompts, given, most=budget):
        if budget == 0:
            break
        grants[view.id] = min(view.num_pending, budget)
        budget -= grants[view.id]
    return grants
