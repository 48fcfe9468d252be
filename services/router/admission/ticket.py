"""What the line knows of one placement, and what it learns when that is over."""

from dataclasses import dataclass

from common.core.ids import RequestId, TenantId
from common.core.request import Priority

OUTPUT_WEIGHT = 5.0
"""Prompt tokens that one generated token costs. Derived: a decode row over a prompt token in the default cost model."""

PAGE_SECOND_WEIGHT = 1.0
"""Prompt tokens that holding a page for a second costs. Derived: a worker reads some 5,000 tokens a second and has as
many pages; whoever holds them all has used it up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """One placement that wants in. `has_run`: placed before, so never refused, and waits for workers to return.

    `num_pages` are promised at the start. `uncached_tokens` of the context must be computed, as far as hints tell;
    `reading_s`: what that takes on a worker that does nothing else, 0 where nobody has measured it.
    """

    request: RequestId
    tenant: TenantId = TenantId("default")
    priority: Priority
    arrived: float
    deadline: float
    num_pages: int
    num_tokens: int = 0
    uncached_tokens: int = 0
    max_new_tokens: int = 0
    reading_s: float = 0.0
    has_run: bool = False

    def work(self, expected_output: float) -> float:
        """What it will use, in prompt tokens. What an earlier leg was charged for is not charged again."""
        prompt = 0 if self.has_run else self.uncached_tokens
        return prompt + OUTPUT_WEIGHT * min(self.max_new_tokens, expected_output)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one placement used in the end. `generated_tokens` of all its choices."""

    generated_tokens: int = 0
    page_seconds: float = 0.0

    def work(self, ticket: Ticket) -> float:
        """In prompt tokens, as in `Ticket.work`."""
        prompt = 0 if ticket.has_run else ticket.uncached_tokens
        return prompt + OUTPUT_WEIGHT * self.generated_tokens + PAGE_SECOND_WEIGHT * self.page_seconds
