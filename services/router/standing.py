"""What this router thinks of one worker incarnation: reports, silence, refusals, and its own work there."""

from dataclasses import dataclass, field

from common.core.ids import WorkerRef
from common.core.worker import LoadReport, Member, Role, WorkerState
from services.router.view import WorkerView

REFUSAL_S = 0.05
"""Chosen: reports older than a refusal do not count against it; a step or two later the worker is asked again."""


@dataclass(eq=False, slots=True)
class Assignment:
    """One work placed on one worker. `tokens` are prompt tokens that it has not read yet."""

    worker: WorkerRef
    tokens: int
    pages: int


@dataclass(eq=False, slots=True)
class Standing:
    """Writer: the fleet. `is_connected`: its event stream is alive; nothing else proves that it lives."""

    member: Member
    first_seen: float
    heard_at: float
    load: LoadReport
    is_connected: bool = False
    is_listed: bool = True
    is_draining: bool = False
    refused_at: float = float("-inf")
    sent_tokens: int = 0
    sent_pages: int = 0
    assignments: set[Assignment] = field(default_factory=set)

    @property
    def worker(self) -> WorkerRef:
        return self.member.worker

    @property
    def role(self) -> Role:
        return self.member.role

    @property
    def is_eligible(self) -> bool:
        is_ready = self.member.state is WorkerState.READY and not self.is_draining
        return self.is_connected and is_ready

    @property
    def state(self) -> WorkerState:
        """The directory's word, unless we know better."""
        if not self.is_connected:
            return WorkerState.SUSPECT
        return WorkerState.DRAINING if self.is_draining else self.member.state

    def note_report(self, load: LoadReport, now: float) -> None:
        """A fresh report covers what was sent before it."""
        self.load = load
        self.heard_at = now
        self.sent_tokens = self.sent_pages = 0

    def assign(self, tokens: int, pages: int) -> Assignment:
        assignment = Assignment(worker=self.worker, tokens=tokens, pages=pages)
        self.assignments.add(assignment)
        self.sent_tokens += tokens
        self.sent_pages += pages
        return assignment

    def view(self, now: float) -> WorkerView:
        return WorkerView(
            worker=self.worker,
            role=self.role,
            is_eligible=self.is_eligible,
            has_room=now - self.refused_at >= REFUSAL_S,
            load=self.load,
            age_s=now - self.first_seen,
            silent_s=now - self.heard_at,
            in_flight=len(self.assignments),
            sent_tokens=self.sent_tokens,
            sent_pages=self.sent_pages,
            pending_tokens=sum(assignment.tokens for assignment in self.assignments),
        )
