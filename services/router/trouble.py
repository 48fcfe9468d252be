"""What went wrong with one request so far, and how much more it may cost the fleet."""

from dataclasses import dataclass, field

from common.core.errors import BatonError, InternalError, Reason
from common.core.ids import RequestId, WorkerId, WorkerRef
from services.router.setback import LegBroken, Setback

MAX_POISONED = 2
"""A request that fails the model step on two workers is the cause: it may not visit the rest of the fleet."""


@dataclass(slots=True)
class Trouble:
    """Shared by all legs of a request. Writer: its journey. A failure without a token since the last one counts up."""

    request: RequestId
    max_attempts: int
    avoid: set[WorkerRef] = field(default_factory=set)
    read_by: WorkerRef | None = None
    """Who read the prompt last: its cache makes another attempt cheap."""
    _poisoned: set[WorkerId] = field(default_factory=set)
    _num_attempts: int = 0
    _num_failures: int = 0
    _num_tokens: int = 0

    def next_attempt(self) -> int:
        """Attempts count from 1 through all legs: a later one fences an earlier one."""
        self._num_attempts += 1
        return self._num_attempts

    def note(self, broken: LegBroken, num_tokens: int) -> None:
        """Counts a broken leg; the client has `num_tokens` by now. Raises what ends the request, if anything does."""
        if broken.setback in (Setback.REFUSED, Setback.PAUSED, Setback.LEFT):
            return
        self._num_failures = 1 if num_tokens > self._num_tokens else self._num_failures + 1
        self._num_tokens = num_tokens
        if broken.worker is not None:
            self.avoid.add(broken.worker)
        if broken.setback is Setback.POISON:
            self._note_poison(broken.worker, broken.cause)
        if self._num_failures >= self.max_attempts:
            raise broken.cause

    def _note_poison(self, worker: WorkerRef | None, cause: BatonError) -> None:
        if worker is not None:
            self._poisoned.add(worker.worker)
        if len(self._poisoned) >= MAX_POISONED:
            raise InternalError(
                message=f"{self.request} failed in the model step of {len(self._poisoned)} workers",
                reason=Reason.POISON_REQUEST,
                facts={"workers": ",".join(sorted(self._poisoned))},
            ) from cause
