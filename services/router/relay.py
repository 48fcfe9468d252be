"""Legs on one place: the first, and those that carry on where it was handed over.

leg -- its worker drains and gives the work away --> one leg for each choice, with a baton or without
  ^                                                         |
  '--------------------- and again -------------------------'
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from common.core.errors import BatonError
from common.core.request import Choice, Work
from services.router.admission.admission import Place
from services.router.baton import Baton, LegHandedOver
from services.router.leg import Leg
from services.router.record import Record
from services.router.setback import LegBroken, Setback
from services.router.stream import RequestStream
from services.router.track import Track
from services.router.trouble import Trouble
from services.router.way_out import let_go_of

Failure = TypeVar("Failure", bound=Exception)


class Relay:
    """Owner: a journey. `make_work` makes a new work for choices; `recover` is what must happen after a broken leg."""

    def __init__(
        self,
        *,
        track: Track,
        stream: RequestStream,
        record: Record,
        trouble: Trouble,
        make_work: Callable[[tuple[Choice, ...]], Work],
        recover: Callable[[LegBroken], Awaitable[None]],
    ) -> None:
        self._track = track
        self._stream = stream
        self._record = record
        self._trouble = trouble
        self._make_work = make_work
        self._recover = recover

    async def run(self, work: Work, place: Place, baton: Baton | None = None) -> None:
        """Returns when every choice of the work is finished. Raises LegBroken, or the BatonError that ends it."""
        batons: tuple[Baton, ...] = ()
        with self._track.switchboard.open(work.request) as inbox:
            leg = Leg(
                work=work,
                inbox=inbox,
                track=self._track,
                place=place,
                stream=self._stream,
                record=self._record,
                trouble=self._trouble,
                baton=baton,
            )
            try:
                await leg.run()
            except LegHandedOver as handed:
                batons = handed.batons
        if batons:
            await self._carry_on(work.choices, batons, place)

    async def _carry_on(self, choices: Sequence[Choice], batons: Sequence[Baton], place: Place) -> None:
        """Each choice on its own. One that must wait for a turn sends all of them to wait: the place is given up."""
        held = {baton.choice: baton for baton in batons}
        try:
            async with asyncio.TaskGroup() as group:
                for choice in self._stream.unfinished(choices):
                    group.create_task(self._carry(choice, held.get(choice.index), place))
        except ExceptionGroup as errors:
            expected, bugs = errors.split((BatonError, LegBroken))
            if bugs is not None or expected is None:
                raise
            final, broken = expected.split(BatonError)
            raise first_of(final or broken or expected) from None
        finally:
            for baton in batons:
                self._lay_down(baton)

    async def _carry(self, choice: Choice, baton: Baton | None, place: Place) -> None:
        """One choice, with what its last worker kept, or without: then its tokens are read again."""
        if baton is None:
            self._record.note_moved(choice.index, with_pages=False)
        while self._stream.unfinished((choice,)):
            work = self._make_work((choice,))
            if baton is not None:
                work = replace(work, emitted=work.emitted[:-1])
            try:
                await self.run(work, place, baton)
            except LegBroken as broken:
                if broken.setback in (Setback.REFUSED, Setback.PAUSED):
                    raise
                await self._recover(broken)
                if baton is not None and not baton.is_settled:
                    self._record.note_moved(choice.index, with_pages=False)
            finally:
                if baton is not None:
                    self._lay_down(baton)
            baton = None

    def _lay_down(self, baton: Baton) -> None:
        """Nobody carries it any more. Unless it has arrived, its pages are still kept. Idempotent."""
        if not baton.is_settled:
            baton.lay_down()
            self._track.cancellations.submit(baton.source, let_go_of(baton.work, (baton.choice,)))


def first_of(group: BaseExceptionGroup[Failure]) -> Failure:
    """One of the errors that ended choices of the same request: one status fits on the wire."""
    error = group.exceptions[0]
    return first_of(error) if isinstance(error, BaseExceptionGroup) else error
