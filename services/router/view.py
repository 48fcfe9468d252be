"""The fleet as one moment shows it: what the policy, admission and operators read. Made by fleet.py, never changed."""

import math
from dataclasses import dataclass

from common.core.ids import WorkerRef
from common.core.worker import LoadReport, Role
from services.router.recent import faded


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """One incarnation. `is_eligible`: ready, heard from lately, not draining. Its report lags; the local part does not.

    `sent_tokens`, `sent_pages` and `sent_sequences` were placed here by this router since the last report;
    `pending_tokens` are prompt tokens of this router's requests that the worker has not read yet, however old, and
    `pending_prompts` the requests that they belong to. `unheard_tokens` and `unheard_prompts` are those of them that
    its last report cannot hold yet.
    """

    worker: WorkerRef
    role: Role
    is_eligible: bool
    has_room: bool = True
    """False while the worker, having refused a request, has shown no sign of a free place."""
    load: LoadReport
    age_s: float
    silent_s: float = 0.0
    in_flight: int = 0
    sent_tokens: int = 0
    sent_pages: int = 0
    sent_sequences: int = 0
    pending_tokens: int = 0
    pending_prompts: int = 0
    unheard_tokens: int = 0
    unheard_prompts: int = 0
    recent_tokens: float = 0.0
    """Uncached prompt tokens that this router placed here lately, fading with RECENT_S, as of `recent_at`."""
    recent_at: float = 0.0
    pool: str = ""
    """Request class that the worker is kept for; empty: every class."""
    is_dual: bool = False
    """A decode worker that also reads prompts for others."""
    is_heard: bool = True
    """Its stream is alive: what it has cached can be fetched, even while it drains."""

    @property
    def backlog_tokens(self) -> int:
        """Prompt tokens ahead of a new request. Where the worker does not tell what is left of prompts that it has
        begun, all of them count until they are read."""
        if self.load.unread_prompts is not None:
            return self.load.waiting_tokens + self.unheard_tokens
        return max(self.load.waiting_tokens + self.sent_tokens, self.pending_tokens)

    @property
    def backlog_prompts(self) -> int:
        """Prompts that those tokens belong to. Of a worker that does not tell: as many as are known, and of others' as
        many as ours are long."""
        if self.load.unread_prompts is not None:
            return self.load.unread_prompts + self.unheard_prompts
        if not self.pending_tokens:
            return self.load.waiting_requests
        ours = math.ceil(self.pending_prompts * self.backlog_tokens / self.pending_tokens)
        return max(self.load.waiting_requests, ours)

    @property
    def num_answers(self) -> int:
        """Sequences that a step writes for: prompts that are not read yet do not slow it down."""
        return max(self.num_sequences - self.backlog_prompts, 0)

    @property
    def num_sequences(self) -> int:
        """Sequences that share the worker's steps with a new request."""
        return max(self.load.running_sequences + self.load.waiting_requests, self.in_flight)

    @property
    def num_places(self) -> int:
        """Sequences that may still come, as far as this router can tell."""
        if not self.load.max_sequences:
            return 1_000_000
        known = self.load.running_sequences + self.load.waiting_requests + self.sent_sequences
        return self.load.max_sequences - max(known, self.in_flight)

    @property
    def available_pages(self) -> int:
        """Pages that a new request can have: free ones, and cached ones that nobody refers to."""
        return max(self.load.pages.free + self.load.pages.cached - self.sent_pages, 0)

    def recent(self, now: float) -> float:
        """`recent_tokens` as of now."""
        return faded(self.recent_tokens, self.recent_at, now)

    def context_tokens(self, page_size: int) -> int:
        """What a decode step reads: as reported, else what referenced pages can hold."""
        return self.load.context_tokens or self.load.pages.referenced * page_size


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """Every worker that the router knows, ordered by id. `page_bytes`: what one page weighs on a link."""

    workers: tuple[WorkerView, ...]
    now: float = 0.0
    page_bytes: int = 0
    can_fetch: bool = False
    """Whether workers serve cached pages to each other."""

    def eligible(self, role: Role) -> tuple[WorkerView, ...]:
        """Workers of `role` that may get new work."""
        return tuple(worker for worker in self.workers if worker.role is role and worker.is_eligible)

    def find(self, worker: WorkerRef) -> WorkerView | None:
        return next((view for view in self.workers if view.worker == worker), None)
