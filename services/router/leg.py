"""One leg of a request: a work placed on a route, and followed until its choices are finished or it breaks.

    choose -> reserve on D -> prefill on P ------> follow -> finished
       | '--> start local on D ------------------^ ^ |  ^
    baton --> reserve on D, which fetches ---------' v  |  P or the fetch failed:
                                       renew the promise, another P      (D failed, nobody left: LegBroken)
                                                     '----> D drains, and gave the work away: LegHandedOver

A leg tries again only what its promise survives. Everything else is for the journey to decide.
"""

from common.core.errors import InternalError, Reason, Refused, Unavailable
from common.core.events import (
    HandedOver,
    PrefillDone,
    PromptScored,
    StationReached,
    TicketIssued,
    TokensEmitted,
    WorkEvent,
    WorkFailed,
)
from common.core.ids import WorkerRef
from common.core.request import Work
from common.core.worker import Role
from services.router.admission.admission import Place
from services.router.baton import Baton, LegHandedOver
from services.router.holdings import Holdings
from services.router.inbox import Arrival, Draining, Inbox, Taking, WorkerLost
from services.router.placement import Placement
from services.router.progress import Progress
from services.router.record import Record
from services.router.setback import LegBroken, Setback, failure_of, lost
from services.router.stream import RequestStream
from services.router.track import Track
from services.router.trouble import Trouble
from services.router.way_out import WayOut
from services.router.workers import Cancel


class Leg:
    """Owner: a journey, inside its turn. Events of the leg's attempts count, all others are dropped."""

    def __init__(
        self,
        *,
        work: Work,
        inbox: Inbox,
        track: Track,
        place: Place,
        stream: RequestStream,
        record: Record,
        trouble: Trouble,
        baton: Baton | None = None,
    ) -> None:
        """`baton`: what another worker keeps of the work's one choice."""
        self._track = track
        self._place = place
        self._stream = stream
        self._record = record
        self._trouble = trouble
        self._baton = baton
        self._inbox = inbox
        self._way_out = WayOut(track, stream, record)
        self._holdings = Holdings(track, inbox)
        self._placement = Placement(
            work=work, track=track, place=place, holdings=self._holdings, record=record, trouble=trouble
        )
        self._progress = Progress(num_tokens=len(work.context))
        inbox.num_left = lambda: self._way_out.num_left(self._placement.work)
        self._has_begun = False
        self._first_index = work.first_index
        self._ended_on_decode: set[int] = set()

    async def run(self) -> None:
        """Returns when every choice is finished. Raises LegBroken or LegHandedOver, for the journey; or the BatonError
        that ends the request.

        The caller's deadline and cancellation bound it; whatever happens, both workers are told.
        """
        try:
            await (self._placement.start() if self._baton is None else self._placement.carry_on(self._baton))
            self._place.note_landed()
            await self._follow()
        finally:
            self._way_out.close()
            is_over = all(choice.index in self._ended_on_decode for choice in self._placement.work.choices)
            self._holdings.let_go(self._placement.work, is_over=is_over)
            self._placement.close()

    async def _follow(self) -> None:
        while self._stream.unfinished(self._placement.work.choices):
            if (arrival := await self._inbox.next(self._take_at_once)) is not None:
                await self._take(arrival)
        # Usage and stations may have come in the same message as the last token.
        while (arrival := self._inbox.next_nowait()) is not None:
            if isinstance(arrival.event, PrefillDone | StationReached):
                self._record.note_event(arrival.worker, arrival.event)

    async def _take(self, arrival: Arrival) -> None:
        worker, event = arrival.worker, arrival.event
        if isinstance(event, WorkerLost):
            await self._take_loss(worker, event)
        elif isinstance(event, Draining):
            await self._take_warning(worker, event)
        elif self._take_at_once(worker, event) is Taking.REFUSED:
            assert isinstance(event, WorkFailed)
            await self._take_failure(worker, event)

    def _take_at_once(self, worker: WorkerRef, event: WorkEvent) -> Taking:
        """All but a failure, after which somebody has to be asked to go on."""
        if not self._placement.is_ours(worker, event.attempt):
            self._record.note_stale()
        elif isinstance(event, TokensEmitted):
            return self._take_tokens(worker, event)
        elif isinstance(event, PromptScored):
            self._stream.accept_scores(event)
        elif isinstance(event, WorkFailed):
            return Taking.REFUSED
        elif isinstance(event, HandedOver):
            self._take_handed(worker, event)
        elif isinstance(event, TicketIssued):
            self._record.note_stale()  # a leg names the destination of every prompt: no ticket is meant for it
        else:
            self._take_news(worker, event)
        return Taking.TAKEN

    def _take_tokens(self, worker: WorkerRef, event: TokensEmitted) -> Taking:
        decode = self._placement.decode
        if worker is decode or worker == decode:
            if not self._has_begun:
                self._note_begun()
            if event.finish is not None:
                self._ended_on_decode.add(event.choice)
            elif event.first_index == self._first_index and self._is_over(event.choice):
                self._end_choice(event.choice)  # told before decode began, when it had no such choice to end
        conflicts = self._stream.num_conflicts
        delta = self._stream.accept(event)
        if delta is not None:
            self._record.note_delta(delta)
            if delta.finish is not None and event.finish is None:
                self._end_choice(delta.choice)
        if self._stream.num_conflicts > conflicts:
            raise LegBroken(setback=Setback.FAILED, cause=_contradiction(worker, event), worker=worker)
        is_over = (
            delta is not None and delta.finish is not None and not self._stream.unfinished(self._placement.work.choices)
        )
        if self._stream.is_full and not is_over:
            raise LegBroken(setback=Setback.PAUSED, cause=_slow_reader(self._placement.work))
        return Taking.OVER if is_over else Taking.TAKEN

    def _note_begun(self) -> None:
        """Decode writes: whatever filled its pages is not needed any more."""
        if self._baton is not None:
            self._baton.arrive()
            self._record.note_moved(self._baton.choice, with_pages=self._placement.prefill is None)
        self._has_begun = True

    def _is_over(self, choice: int) -> bool:
        return all(pending.index != choice for pending in self._stream.unfinished(self._placement.work.choices))

    def _end_choice(self, choice: int) -> None:
        """Its text ended it, which decode cannot know; the other choices go on. After the last one the leg lets go."""
        if self._placement.decode is not None and self._stream.unfinished(self._placement.work.choices):
            work = self._placement.work
            cancel = Cancel(work=work.request, attempt=work.attempt, reason=Reason.CANCELLED, choices=(choice,))
            self._track.cancellations.submit(self._placement.decode, cancel)

    def _take_news(self, worker: WorkerRef, event: PrefillDone | StationReached) -> None:
        self._record.note_event(worker, event)
        if worker == self._placement.prefill:
            self._progress.note(event)
        if isinstance(event, PrefillDone):
            self._trouble.read_by = worker
            self._holdings.note_read(worker)

    async def _take_loss(self, worker: WorkerRef, event: WorkerLost) -> None:
        """A lost decode worker ends the leg; a lost prefill worker matters until decode has begun. One that leaves in
        order waits until its pages were taken; if it was killed meanwhile, decode misses them and says so."""
        broken = lost(worker, event.reason, is_leaving=event.is_leaving)
        if worker == self._placement.decode:
            raise broken
        if event.is_leaving and self._progress.is_read(self._placement.work.attempt):
            return
        if worker == self._placement.prefill and not self._has_begun:
            await self._placement.read_elsewhere(broken)

    async def _take_warning(self, worker: WorkerRef, draining: Draining) -> None:
        """The worker leaves. A promise is filled first: what is adopted can move, what is on its way cannot. A prompt
        that it will not have read is read elsewhere."""
        placement = self._placement
        if worker == placement.decode and (self._has_begun or placement.promise is None):
            await self._way_out.consider(worker, draining, placement.work, placement.facts)
        elif worker == placement.prefill and not (
            self._has_begun or self._progress.stays(placement.work.attempt, draining, self._track.clock.monotonic())
        ):
            await placement.pass_on()

    def _take_handed(self, worker: WorkerRef, event: HandedOver) -> None:
        """The worker writes this work no more: the leg is over, and whoever carries on has its pages."""
        batons = self._way_out.batons(worker, event, self._placement.work, self._placement.facts())
        if not batons:
            cause = Unavailable(
                message=f"{worker.worker} gave {self._placement.work.request} away", reason=Reason.DRAINING
            )
            raise LegBroken(setback=Setback.LEFT, cause=cause)
        self._holdings.release(worker)
        raise LegHandedOver(batons=batons)

    async def _take_failure(self, worker: WorkerRef, event: WorkFailed) -> None:
        """Both ends of a transfer tell of its failure: the later word is about an attempt that was replaced."""
        if event.role is Role.PREFILL and event.attempt != self._placement.work.attempt:
            self._record.note_stale()
            return
        broken = failure_of(worker, event)
        is_of_sender = event.role is Role.PREFILL and worker == self._placement.decode
        if broken.setback is Setback.LEFT and not is_of_sender:  # whatever it says besides, it is not asked again
            self._track.fleet.note_draining(worker)
        stands = event.reservation_stands or event.role is Role.PREFILL
        if self._placement.promise is None or not stands:
            raise broken
        if not self._has_begun:
            await self._placement.read_again(broken)


def _slow_reader(work: Work) -> Refused:
    return Refused(message=f"{work.request}: the client reads slower than tokens come", reason=Reason.SLOW_READER)


def _contradiction(worker: WorkerRef, event: TokensEmitted) -> InternalError:
    """What a worker writes after a token that the client does not have is the continuation of another text."""
    where = f"{event.request}/{event.choice} index {event.first_index}"
    return InternalError(message=f"{worker.worker} drew another token for {where} than the client has")
