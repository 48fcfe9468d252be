"""The fleet as one moment shows it: what the policy, admission and operators read. Made by fleet.py, never changed."""

from dataclasses import dataclass

from common.core.ids import WorkerRef
from common.core.worker import LoadReport, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """One incarnation. `is_eligible`: ready, heard from lately, not draining. Its report lags; the local part does not.

    `sent_tokens` and `sent_pages` were placed here by this router since the last report; `pending_tokens` are prompt
    tokens of this router's requests that the worker has not read yet, however old.
    """

    worker: WorkerRef
    role: Role
    is_eligible: bool
    has_room: bool = True
    """False for a moment after the worker refused a request for lack of pages or queue."""
    load: LoadReport
    age_s: float
    silent_s: float = 0.0
    in_flight: int = 0
    sent_tokens: int = 0
    sent_pages: int = 0
    pending_tokens: int = 0

    @property
    def backlog_tokens(self) -> int:
        """Prompt tokens ahead of a new request."""
        return max(self.load.waiting_tokens + self.sent_tokens, self.pending_tokens)

    @property
    def num_sequences(self) -> int:
        """Sequences that share the worker's steps with a new request."""
        return max(self.load.running_sequences + self.load.waiting_requests, self.in_flight)

    @property
    def available_pages(self) -> int:
        """Pages that a new request can have: free ones, and cached ones that nobody refers to."""
        return max(self.load.pages.free + self.load.pages.cached - self.sent_pages, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """Every worker that the router knows, ordered by id."""

    workers: tuple[WorkerView, ...]

    def eligible(self, role: Role) -> tuple[WorkerView, ...]:
        """Workers of `role` that may get new work."""
        return tuple(worker for worker in self.workers if worker.role is role and worker.is_eligible)

    def find(self, worker: WorkerRef) -> WorkerView | None:
        return next((view for view in self.workers if view.worker == worker), None)
