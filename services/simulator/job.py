"""One request on its way through simulated workers, and whom they tell about it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from common.core.ids import RequestId
from common.core.request import Priority
from services.router.policy import Route
from services.simulator.context import Context
from services.simulator.outcome import Served
from services.simulator.trace import TraceRequest


@dataclass(eq=False, slots=True, kw_only=True)
class Job:
    """Writer: the replay, and the machines that work on it. `worst_pages`: of an answer to its last allowed token."""

    index: int
    id: RequestId
    request: TraceRequest
    served: Served
    worst_pages: int
    priority: Priority = Priority.STANDARD
    route: Route | None = None
    sent_tokens: int = 0
    held_pages: int = 0
    """Leading pages that the decode machine had already when it promised the others."""
    shipped_pages: int = 0
    shipped_at: float = 0.0
    """When the last page so far has arrived."""
    placed_at: float = 0.0
    num_attempts: int = 0
    on_decode: Context | None = None
    on_prefill: Context | None = None


Answer = Callable[[bool], None]
"""How a machine says whether it takes a job."""


@dataclass(frozen=True, slots=True)
class Told:
    """Whom machines tell. `read`: the prompt is read and its first token drawn; `shipped`: that many pages are ready to
    travel, all of them with the last; `written`: the answer is complete."""

    read: Callable[[Job, Context, float], None] = field(repr=False)
    shipped: Callable[[Job, int, bool], None] = field(repr=False)
    written: Callable[[Job], None] = field(repr=False)
