"""What this router thinks of one worker incarnation: reports, silence, refusals, and its own work there."""

import math
from dataclasses import dataclass, field

from common.core.ids import WorkerRef
from common.core.worker import LoadReport, Member, Role, WorkerState
from services.router.inbox import Draining
from services.router.recent import faded
from services.router.unheard import Unheard
from services.router.view import WorkerView
from services.router.window import Window


@dataclass(eq=False, slots=True)
class Assignment:
    """One work placed on one worker. `tokens` are prompt tokens that it has not read yet; `is_landed`: it accepted."""

    worker: WorkerRef
    tokens: int
    pages: int
    sequences: int = 1
    is_landed: bool = False


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
    stands_in: bool = False
    """It came in the place of one that went without a word."""
    warned_at: float = -math.inf
    """When the legs there were last told that it drains."""
    grace_s: float = 0.0
    """The longest time that it said to stay, once it drains."""
    window: Window = field(default_factory=Window)
    sent_tokens: int = 0
    sent_pages: int = 0
    sent_sequences: int = 0
    recent_tokens: float = 0.0
    recent_at: float = 0.0
    unheard: Unheard = field(default_factory=Unheard)
    assignments: set[Assignment] = field(default_factory=set)
    in_flight: int = 0
    pending_tokens: int = 0
    pending_prompts: int = 0
    """Sums over the assignments. Kept, not added up: each request looks at them several times, beside hundreds."""

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
    def is_leaving(self) -> bool:
        """It said so itself, or through the directory."""
        return self.is_draining or self.member.state is WorkerState.DRAINING

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
        self.sent_tokens = self.sent_pages = self.sent_sequences = 0
        self.unheard.note_report()
        self.window.reported(load)

    def assign(self, tokens: int, pages: int, sequences: int, now: float) -> Assignment:
        """An offer is about to be made."""
        assignment = Assignment(worker=self.worker, tokens=tokens, pages=pages, sequences=sequences)
        self.assignments.add(assignment)
        self._count(assignment, 1)
        self.unheard.note_sent(assignment)
        self.sent_tokens += tokens
        self.sent_pages += pages
        self.sent_sequences += sequences
        self._note_recent(tokens, now)
        self.window.offered(now)
        return assignment

    def land(self, assignment: Assignment) -> None:
        """The worker took it."""
        assignment.is_landed = True
        self.window.taken()

    def read(self, assignment: Assignment) -> None:
        """The worker has read the prompt, of work that is not over."""
        if assignment in self.assignments:
            self._count(assignment, -1)
            self.unheard.note_over(assignment)
            assignment.tokens = 0
            self._count(assignment, 1)

    def release(self, assignment: Assignment, now: float) -> None:
        """The work is over here, or was never taken. Idempotent."""
        if assignment not in self.assignments:
            return
        self.assignments.discard(assignment)
        self.unheard.note_over(assignment)
        self._count(assignment, -1)
        if assignment.is_landed:
            self.window.freed()
        else:
            self._note_recent(-assignment.tokens, now)

    def _count(self, assignment: Assignment, sign: int) -> None:
        self.in_flight += sign * assignment.sequences
        self.pending_tokens += sign * assignment.tokens
        self.pending_prompts += sign * (assignment.tokens > 0)

    def _note_recent(self, tokens: int, now: float) -> None:
        left = faded(self.recent_tokens, self.recent_at, now)
        self.recent_tokens, self.recent_at = max(0.0, left + tokens), now

    def warning(self, left_s: float) -> Draining:
        """It drains, and stays for so long."""
        self.grace_s = max(self.grace_s, left_s)
        return Draining(
            left_s=left_s,
            grace_s=self.grace_s,
            step_s=self.load.step_seconds,
            num_sequences=self.load.running_sequences,
        )

    def view(self, now: float) -> WorkerView:
        return WorkerView(
            worker=self.worker,
            role=self.role,
            is_eligible=self.is_eligible,
            has_room=self.window.is_open(now),
            load=self.load,
            age_s=now - self.first_seen,
            silent_s=now - self.heard_at,
            in_flight=self.in_flight,
            sent_tokens=self.sent_tokens,
            sent_pages=self.sent_pages,
            sent_sequences=self.sent_sequences,
            pending_tokens=self.pending_tokens,
            pending_prompts=self.pending_prompts,
            unheard_tokens=self.unheard.num_tokens,
            unheard_prompts=self.unheard.num_prompts,
            recent_tokens=self.recent_tokens,
            recent_at=self.recent_at,
            pool=self.member.pool,
            is_heard=self.is_connected,
        )
