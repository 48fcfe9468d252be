"""What one leg has on workers: counted in the fleet, heard in the inbox, cancelled when the leg lets go."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from common.core.errors import BatonError, Reason
from common.core.ids import WorkerRef
from common.core.request import Work
from services.router.inbox import Inbox
from services.router.setback import LegBroken, Setback, blamed
from services.router.workers import Cancel

if TYPE_CHECKING:
    from services.router.standing import Assignment
    from services.router.track import Track


class Holdings:
    """Owner: a leg. One assignment per worker."""

    def __init__(self, track: "Track", inbox: Inbox) -> None:
        self._track = track
        self._inbox = inbox
        self._assignments: dict[WorkerRef, Assignment] = {}

    def count_on(self, worker: WorkerRef, *, tokens: int, pages: int, sequences: int) -> None:
        """From here on the worker's events and its loss reach the leg, and its load includes the work."""
        self._inbox.watched.add(worker)
        self._assignments[worker] = self._track.fleet.assign(worker, tokens=tokens, pages=pages, sequences=sequences)

    def note_read(self, worker: WorkerRef) -> None:
        """It has read the prompt."""
        self._track.fleet.note_read(self._assignments[worker])

    @contextmanager
    def blaming(self, worker: WorkerRef) -> Iterator[None]:
        """Around a placement call: its error becomes what the journey acts upon, and the fleet learns from it."""
        try:
            yield
        except BatonError as error:
            raise self._blamed(worker, error) from error
        else:
            if (assignment := self._assignments.get(worker)) is not None and not assignment.is_landed:
                self._track.fleet.land(assignment)

    def _blamed(self, worker: WorkerRef, error: BatonError) -> LegBroken:
        broken = blamed(worker, error)
        if error.reason is Reason.DRAINING:
            self._track.fleet.note_draining(worker)
        elif broken.setback is Setback.REFUSED:
            self._track.fleet.note_refusal(worker)
        return broken

    def release(self, worker: WorkerRef) -> bool:
        """It has nothing of the leg any more, or is not to be told. False where it had nothing."""
        self._inbox.watched.discard(worker)
        if (assignment := self._assignments.pop(worker, None)) is None:
            return False
        self._track.fleet.release(assignment)
        return True

    def drop(self, worker: WorkerRef, work: Work) -> None:
        """Ends what the leg has on one worker. Idempotent there; never waits here."""
        if self.release(worker):
            cancel = Cancel(work=work.request, attempt=work.attempt, reason=Reason.CANCELLED)
            self._track.cancellations.submit(worker, cancel)

    def let_go(self, work: Work, *, is_over: bool) -> None:
        """Nothing stays behind. `is_over`: decode itself ended every choice, so there is nothing to cancel."""
        for worker, assignment in list(self._assignments.items()):
            if is_over:
                self._track.fleet.release(assignment)
            else:
                self.drop(worker, work)
