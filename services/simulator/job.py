"""One request on its way through simulated workers, and whom they tell about it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from common.core.ids import RequestId, SequenceId
from common.core.request import Priority
from services.router.policy import Route
from services.simulator.context import Context
from services.simulator.outcome import Served
from services.simulator.trace import TraceRequest


@dataclass(eq=False, slots=True, kw_only=True)
class Job:
    """Writer: the replay, and the machines that work on it.

    `max_tokens`: what the client allowed, where router and workers were told; else they count with `limit_tokens`.
    """

    index: int
    id: RequestId
    request: TraceRequest
    served: Served
    limit_tokens: int
    page_size: int
    max_tokens: int | None = None
    priority: Priority = Priority.STANDARD
    route: Route | None = None
    sent_tokens: int = 0
    held_pages: int = 0
    """Leading pages that the decode machine had already when it promised the others."""
    shipped_pages: int = 0
    shipped_at: float = 0.0
    """When the last page so far has arrived."""
    num_attempts: int = 0
    on_decode: "JobContext | None" = None
    on_prefill: "JobContext | None" = None

    @property
    def most_tokens(self) -> int:
        """Of an answer to its last allowed token."""
        return self.max_tokens or self.limit_tokens

    @property
    def worst_pages(self) -> int:
        """Of prompt and answer, by then."""
        return -(-(self.request.prompt_tokens + self.most_tokens) // self.page_size)


class JobContext(Context):
    """The part of a job that one machine does."""

    __slots__ = ("job",)

    def __init__(self, job: Job, *, arrived: float, deadline: float, is_export: bool) -> None:
        super().__init__(
            SequenceId(RequestId(f"{job.id}>") if is_export else job.id, 0),
            page_names=job.request.pages,
            prompt_tokens=job.request.prompt_tokens,
            arrived=arrived,
            deadline=deadline,
            priority=job.priority,
            answer_tokens=job.request.output_tokens,
            owner=job.index,
            is_export=is_export,
        )
        self.job = job


Answer = Callable[[bool], None]
"""How a machine says whether it takes a job."""


@dataclass(frozen=True, slots=True)
class Told:
    """Whom machines tell. `read`: the prompt is read and its first token drawn; `shipped`: that many pages are ready to
    travel, all of them with the last; `written`: the answer is complete."""

    read: Callable[[Job, JobContext, float], None] = field(repr=False)
    shipped: Callable[[Job, int, bool], None] = field(repr=False)
    written: Callable[[Job], None] = field(repr=False)
