"""What a scheduler decides for one step. Schedulers are pure: views and limits in, a plan out."""

import math
from dataclasses import dataclass

from common.core.ids import SequenceId, TenantId
from common.core.request import RANK, Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceView:
    """What a scheduler may know about one sequence.

    `num_pending` tokens have no KV yet. `pages_held` are its pages now; `private_pages` of them come back to the pool
    when it is preempted. `needs_copy`: its next slot lies in a shared page, which costs one page to copy.
    """

    id: SequenceId
    priority: Priority
    arrived: float
    deadline: float
    num_tokens: int
    num_pending: int
    pages_held: int
    private_pages: int
    needs_copy: bool
    is_decoding: bool
    tenant: TenantId = TenantId("")

    def pages_to_grow(self, num_tokens: int, page_size: int) -> int:
        """Pages to allocate before `num_tokens` of the pending tokens can be computed."""
        end = self.num_tokens - self.num_pending + num_tokens
        return max(0, -(-end // page_size) - self.pages_held) + int(self.needs_copy)


def seniority(view: SequenceView) -> tuple[int, float, SequenceId]:
    """Sort key of every schedule: class first, then age. Who is served first is preempted last."""
    return RANK[view.priority], view.arrived, view.id


RESERVE = {Priority.INTERACTIVE: 0.0, Priority.STANDARD: 0.0625, Priority.BATCH: 0.125}
"""Share of a worker's places and pages that a class leaves to those above it. Chosen: one place in eight is enough for
the next interactive request to begin at once, and costs batch work little."""


def reserve_of(priority: Priority, total: int) -> int:
    """Of `total` places or pages, those that this class leaves free; at least one. Not meant for an idle worker."""
    return math.ceil(total * RESERVE[priority])


@dataclass(frozen=True, slots=True, kw_only=True)
class Extend:
    """Compute the next `num_tokens` pending tokens of one sequence."""

    sequence: SequenceId
    num_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """One step: preempt first, then extend and decode in one forward."""

    preempt: tuple[SequenceId, ...] = ()
    extend: tuple[Extend, ...] = ()
    decode: tuple[SequenceId, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.preempt or self.extend or self.decode)
