"""A leg's way off a worker that drains: whether to move, room elsewhere, and what the worker gives away."""

from collections.abc import Callable
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
    from services.router.moves import Slot
    from services.router.standing import Assignment
    from services.router.track import Track


class WayOut:
    """Owner: a leg. Room is held from the question to the answer, so that a hundred legs do not move into one place."""

    def __init__(self, track: "Track", stream: RequestStream, record: Record) -> None:
        self._track = track
        self._stream = stream
        self._record = record
        self._room: Assignment | None = None
        self._slots: tuple[Slot, ...] = ()

    def num_left(self, work: Work) -> int:
        """Tokens that the work's longest choice may still get."""
        lengths = [self._stream.num_emitted(choice.index) for choice in self._stream.unfinished(work.choices)]
        return work.sampling.max_tokens - min(lengths, default=work.sampling.max_tokens)

    async def consider(
        self, worker: WorkerRef, draining: Draining, work: Work, find_facts: Callable[[], Facts]
    ) -> None:
        """Work that will not be over in time is asked for, once it is its turn and there is room for it elsewhere.
        Without, it stays until the next warning. What the worker gives away arrives behind its last tokens."""
        if self._room is not None or is_over_in_time(draining, self.num_left(work)):
            return
        if not self._track.moves.may_begin(worker, draining):
            return
        pending = self._stream.unfinished(work.choices)
        longest = max(self._stream.num_emitted(choice.index) for choice in pending)
        facts = replace(find_facts(), context_tokens=len(work.prompt) + longest, num_choices=len(pending))
        destination = self._track.chooser.writer(work, facts)
        if destination is None:
            return
        self._room = self._track.fleet.assign(destination, tokens=0, pages=facts.num_pages, sequences=facts.num_choices)
        self._slots = self._track.moves.begin(worker, len(pending))
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
        slots = iter(self._slots)
        pending = {choice.index for choice in self._stream.unfinished(work.choices)}
        found = []
        for each in event.choices:
            has_all = each.choice in pending and each.num_tokens == self._stream.num_emitted(each.choice)
            if has_all and destination is not None and each.ticket is not None:
                found.append(
                    Baton(
                        source=worker,
                        work=work,
                        choice=each.choice,
                        ticket=each.ticket,
                        destination=destination,
                        slot=next(slots, None),
                    )
                )
        self._slots = tuple(slots)
        self.close()
        over = {each.choice for each in event.choices} - {baton.choice for baton in found}
        if over:
            self._track.cancellations.submit(worker, let_go_of(work, tuple(sorted(over))))
        return tuple(found)

    def close(self) -> None:
        """No room is held any more, and nobody is on his way who is in no baton. Idempotent."""
        for slot in self._slots:
            slot.abandoned()
        self._slots = ()
        if self._room is not None:
            self._track.fleet.release(self._room)
            self._room = None


def let_go_of(work: Work, choices: tuple[int, ...]) -> Cancel:
    """Nobody will fetch what is kept of these choices."""
    return Cancel(work=work.request, attempt=work.attempt, reason=Reason.CANCELLED, choices=choices)
