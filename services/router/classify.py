"""What routing needs to know about a request, as numbers. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from common.core.ids import WorkerId, WorkerRef
from common.core.request import Priority, Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One placement's needs. `hits`: leading context tokens in each worker's prefix cache, as far as hints tell.

    `avoid` failed this request before: taken only where nobody else is left. `awaited`: workers some of whose hits are
    prompts that were just sent there: they will have them, and have nothing to lend yet.
    """

    context_tokens: int
    num_choices: int
    page_size: int
    hits: Mapping[WorkerId, int] = field(default_factory=dict)
    avoid: frozenset[WorkerRef] = frozenset()
    awaited: frozenset[WorkerId] = frozenset()
    priority: Priority = Priority.STANDARD
    max_tokens: int = 0
    """Tokens that the answer may still get; 0: not told."""
    answer_tokens: int = 0
    """Length of answers of late, in the mean; 0: not told."""

    @property
    def num_pages(self) -> int:
        """Pages promised at the start: the context, and a page to write on for every further choice."""
        return -(-(self.context_tokens + 1) // self.page_size) + self.num_choices - 1

    def cached_tokens(self, worker: WorkerId) -> int:
        """Usable hits: the last context token is always computed, because its logits give the first new token."""
        return min(self.hits.get(worker, 0), self.context_tokens - 1)

    def uncached_tokens(self, worker: WorkerId) -> int:
        return self.context_tokens - self.cached_tokens(worker)


def classify(
    work: Work,
    *,
    page_size: int,
    hits: Mapping[WorkerId, int],
    avoid: frozenset[WorkerRef] = frozenset(),
    awaited: frozenset[WorkerId] = frozenset(),
    answer_tokens: int = 0,
) -> Facts:
    """The facts of one attempt: tokens that an earlier attempt emitted are context to be read again."""
    return Facts(
        context_tokens=len(work.context),
        num_choices=len(work.choices),
        page_size=page_size,
        hits=hits,
        avoid=avoid,
        awaited=awaited,
        priority=work.priority,
        max_tokens=max(1, work.sampling.max_tokens - len(work.emitted)),
        answer_tokens=answer_tokens,
    )
