"""A leg's way off a worker that drains: whether to move, room elsewhere, and what the worker gives away."""

from dataclasses import replace
from typing import TYPE_CHECKING

from common.core.errors import BatonError, Reason
from common.core.events import HandedOver
from common.core.ids import WorkerRef
from common.core.request import Work
from services.router.baton import Baton, is_over_in_time
from services.router.classify import Facts
from services.router.inbox import Draining
from services.router.record import Record
from services.router.stream import RequestStream
from services.router.workers import Cancel

if TYPE_CHECKING:
    from services.router.standing import Assignment
    from services.router.track import Track


class WayOut:
    """Owner: a leg. Room is held from the question to the answer, so that a hundred legs do not move into one place."""

    def __init__(self, track: "Track", stream: RequestStream, record: Record) -> None:
        self._track = track
        self._stream = stream
        self._record = record
        self._room: Assignment | None = None

    async def consider(self, worker: WorkerRef, draining: Draining, work: Work, facts: Facts) -> None:
        """Work that will not be over in time is asked for, once there is room for it elsewhere. Without room it stays,
        until the next warning. What the worker gives away arrives behind its last tokens."""
        pending = self._stream.unfinished(work.choices)
        lengths = [len(self._stream.emitted(choice.index)) for choice in pending]
        if self._room is not None or is_over_in_time(draining, work.sampling.max_tokens - min(lengths)):
            return
        facts = replace(facts, context_tokens=len(work.prompt) + max(lengths), num_choices=len(pending))
        destination = self._track.chooser.writer(work, facts)
        if destination is None:
            return
        self._room = self._track.fleet.assign(destination, tokens=0, pages=facts.num_pages, sequences=facts.num_choices)
        try:
            num_stopped = await self._track.workers.hand_over(worker, work)
        except BatonError as error:  # the worker may have heard nevertheless
            self._record.note_setback(error)
            num_stopped = 0
        if not num_stopped:
            self.close()

    def batons(self, worker: WorkerRef, event: HandedOver, work: Work, facts: Facts) -> tuple[Baton, ...]:
        """One for each choice whose pages are kept for us and that has not ended here. Other pages are let go."""
        destination = self._room.worker if self._room is not None else self._track.chooser.writer(work, facts)
        self.close()
        pending = {choice.index for choice in self._stream.unfinished(work.choices)}
        found = []
        for each in event.choices:
            has_all = each.choice in pending and each.num_tokens == len(self._stream.emitted(each.choice))
            if has_all and destination is not None and each.ticket is not None:
                made = Baton(source=worker, work=work, choice=each.choice, ticket=each.ticket, destination=destination)
                found.append(made)
        over = {each.choice for each in event.choices} - {baton.choice for baton in found}
        if over:
            self._track.cancellations.submit(worker, let_go_of(work, tuple(sorted(over))))
        return tuple(found)

    def close(self) -> None:
        """No room is held any more. Idempotent."""
        if self._room is not None:
            self._track.fleet.release(self._room)
            self._room = None


def let_go_of(work: Work, choices: tuple[int, ...]) -> Cancel:
    """Nobody will fetch what is kept of these choices."""
    return Cancel(work=work.request, attempt=work.attempt, reason=Reason.CANCELLED, choices=choices)
