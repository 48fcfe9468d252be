"""One leg of a request: a work placed on a route, and followed until its choices are finished or it breaks.

    choose -> reserve on D -> prefill on P ------> follow -> finished
       | '--> start local on D ------------------^ ^ |  ^
    baton --> reserve on D, which fetches ---------' v  |  P or the fetch failed:
                                       renew the promise, another P      (D failed, nobody left: LegBroken)
                                                     '----> D drains, and gave the work away: LegHandedOver

A leg tries again only what its promise survives. Everything else is for the journey to decide.
"""

from dataclasses import dataclass, replace

from common.core.clock import Clock
from common.core.errors import BatonError, InternalError, Reason, Refused, Unavailable
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
from services.router.budget import RetryBudget
from services.router.cancellations import Cancellations
from services.router.chooser import Chooser
from services.router.classify import Facts, classify
from services.router.fleet import Fleet
from services.router.hints import PrefixHints
from services.router.holdings import Holdings
from services.router.inbox import Arrival, Draining, Inbox, Switchboard, Taking, WorkerLost
from services.router.policy import Route
from services.router.record import Record
from services.router.setback import LegBroken, Setback, failure_of, lost, no_room, pages_gone
from services.router.stream import RequestStream
from services.router.trouble import Trouble
from services.router.way_out import WayOut
from services.router.workers import Cancel, Promise, Workers


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """What every leg of every request is run on."""

    fleet: Fleet
    switchboard: Switchboard
    workers: Workers
    cancellations: Cancellations
    hints: PrefixHints
    budget: RetryBudget
    chooser: Chooser
    clock: Clock


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
        self._work = work
        self._inbox = inbox
        self._first_attempt = work.attempt
        self._track = track
        self._place = place
        self._stream = stream
        self._record = record
        self._trouble = trouble
        self._baton = baton
        self._way_out = WayOut(track, stream, record)
        self._promise: Promise | None = None
        self._decode: WorkerRef | None = None
        self._prefill: WorkerRef | None = None
        self._has_begun = False
        self._ended_on_decode: set[int] = set()
        self._holdings = Holdings(track, inbox)

    async def run(self) -> None:
        """Returns when every choice is finished. Raises LegBroken or LegHandedOver, for the journey; or the BatonError
        that ends the request.

        The caller's deadline and cancellation bound it; whatever happens, both workers are told.
        """
        try:
            await self._start()
            self._place.note_landed()
            await self._follow()
        finally:
            self._way_out.close()
            is_over = all(choice.index in self._ended_on_decode for choice in self._work.choices)
            self._holdings.let_go(self._work, is_over=is_over)

    async def _start(self) -> None:
        if self._baton is not None:
            await self._start_with(self._baton)
            return
        facts = self._facts()
        decision = self._track.chooser.route(self._work, facts)
        if decision is None:
            raise no_room(self._work.request)
        self._record.note_decision(self._work.attempt, decision)
        ends = {decision.route.decode.worker, decision.route.reader.worker}
        self._track.hints.note_routed(self._work.context, self._work.cache_scope, *sorted(ends))
        await self._start_on(decision.route, facts)

    async def _start_on(self, route: Route, facts: Facts) -> None:
        decode = self._decode = route.decode
        uncached = 0 if route.prefill else facts.uncached_tokens(decode.worker)
        self._count_on(decode, tokens=uncached, pages=facts.num_pages)
        self._place.note_assigned()
        with self._holdings.blaming(decode):
            if route.prefill is None:
                await self._track.workers.start_local(decode, self._work)
                return
            self._promise = await self._track.workers.reserve(decode, self._work)
        await self._hand_to(route.prefill, facts)

    async def _start_with(self, baton: Baton) -> None:
        """On the worker that has room for it, or on another one; the pages are kept meanwhile.

        Raises LegBroken where nobody has room or the pages cannot be had: they can be computed again, and nobody is to
        blame.
        """
        decode: WorkerRef | None = baton.destination
        facts = self._facts()
        while decode is not None:
            self._decode = decode
            self._count_on(decode, tokens=0, pages=facts.num_pages)
            try:
                with self._holdings.blaming(decode):
                    self._promise = await self._track.workers.reserve(decode, self._work, baton.ticket)
                return
            except LegBroken as broken:
                if broken.setback is not Setback.REFUSED:
                    raise pages_gone(broken.cause) from broken
            except BatonError as error:
                raise pages_gone(error) from error
            self._holdings.drop(decode, self._work)
            facts = replace(facts, avoid=facts.avoid | {decode})
            decode = self._track.chooser.writer(self._work, facts)
        raise no_room(self._work.request)

    def _count_on(self, worker: WorkerRef, *, tokens: int, pages: int) -> None:
        sequences = len(self._work.choices)
        self._holdings.count_on(worker, tokens=tokens, pages=pages, sequences=sequences)

    async def _hand_to(self, prefill: WorkerRef, facts: Facts) -> None:
        """Gives the prompt to a prefill worker; to another one while they refuse."""
        assert self._promise is not None
        while True:
            self._prefill = prefill
            self._count_on(prefill, tokens=facts.uncached_tokens(prefill.worker), pages=0)
            try:
                with self._holdings.blaming(prefill):
                    await self._track.workers.prefill(prefill, self._work, self._promise)
                return
            except LegBroken as broken:
                prefill = await self._renew(broken)

    async def _renew(self, broken: LegBroken) -> WorkerRef:
        """Points the standing promise at the next attempt; answers which prefill worker is to fill it.

        Raises `broken` when no other prefill worker is left, or the request itself seems to be the cause.
        """
        assert self._promise is not None
        if broken.setback is Setback.POISON:
            raise broken
        if self._prefill is not None:  # else pages were to be fetched
            if broken.setback is not Setback.REFUSED:
                self._trouble.avoid.add(self._prefill)
            self._holdings.drop(self._prefill, self._work)
        prefill = self._track.chooser.reader(self._work, self._facts())
        if prefill is None:
            raise broken
        if broken.setback is Setback.FAILED:
            await self._track.budget.take()
        self._record.note_setback(broken.cause)
        self._work = replace(self._work, attempt=self._trouble.next_attempt())
        with self._holdings.blaming(self._promise.worker):
            self._promise = await self._track.workers.renew(self._promise, self._work)
        return prefill

    async def _follow(self) -> None:
        while self._stream.unfinished(self._work.choices):
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
        if isinstance(event, TicketIssued) or not self._is_ours(worker, event.attempt):
            self._record.note_stale()  # a leg names the destination of every prompt: no ticket is meant for it
        elif isinstance(event, TokensEmitted):
            return self._take_tokens(worker, event)
        elif isinstance(event, PromptScored):
            self._stream.accept_scores(event)
        elif isinstance(event, WorkFailed):
            return Taking.REFUSED
        elif isinstance(event, HandedOver):
            self._take_handed(worker, event)
        else:
            self._take_news(worker, event)
        return Taking.TAKEN

    def _is_ours(self, worker: WorkerRef, attempt: int) -> bool:
        """Decode keeps one promise through all attempts of a leg; a prefill worker that was replaced is a zombie."""
        if worker == self._decode:
            return self._first_attempt <= attempt <= self._work.attempt
        return worker == self._prefill and attempt == self._work.attempt

    def _take_tokens(self, worker: WorkerRef, event: TokensEmitted) -> Taking:
        if worker == self._decode:
            self._note_begun()
            if event.finish is not None:
                self._ended_on_decode.add(event.choice)
            elif event.first_index == self._work.first_index and self._is_over(event.choice):
                self._end_choice(event.choice)  # told before decode began, when it had no such choice to end
        conflicts = self._stream.num_conflicts
        delta = self._stream.accept(event)
        if delta is not None:
            self._record.note_delta(delta)
            if delta.finish is not None and event.finish is None:
                self._end_choice(delta.choice)
        if self._stream.num_conflicts > conflicts:
            raise LegBroken(setback=Setback.FAILED, cause=_contradiction(worker, event), worker=worker)
        is_over = delta is not None and delta.finish is not None and not self._stream.unfinished(self._work.choices)
        if self._stream.is_full and not is_over:
            raise LegBroken(setback=Setback.PAUSED, cause=_slow_reader(self._work))
        return Taking.OVER if is_over else Taking.TAKEN

    def _note_begun(self) -> None:
        """Decode writes: whatever filled its pages is not needed any more."""
        if self._baton is not None and not self._has_begun:
            self._baton.is_settled = True
            self._record.note_moved(self._baton.choice, with_pages=self._prefill is None)
        self._has_begun = True

    def _is_over(self, choice: int) -> bool:
        return all(pending.index != choice for pending in self._stream.unfinished(self._work.choices))

    def _end_choice(self, choice: int) -> None:
        """Its text ended it, which decode cannot know; the other choices go on. After the last one the leg lets go."""
        if self._decode is not None and self._stream.unfinished(self._work.choices):
            work = self._work
            cancel = Cancel(work=work.request, attempt=work.attempt, reason=Reason.CANCELLED, choices=(choice,))
            self._track.cancellations.submit(self._decode, cancel)

    def _take_news(self, worker: WorkerRef, event: PrefillDone | StationReached) -> None:
        self._record.note_event(worker, event)
        if isinstance(event, PrefillDone):
            self._trouble.read_by = worker
            self._holdings.note_read(worker)

    async def _take_loss(self, worker: WorkerRef, event: WorkerLost) -> None:
        """A lost decode worker ends the leg; a lost prefill worker matters until decode has begun."""
        broken = lost(worker, event.reason)
        if worker == self._decode:
            raise broken
        if worker == self._prefill and not self._has_begun:
            await self._hand_to(await self._renew(broken), self._facts())

    async def _take_warning(self, worker: WorkerRef, draining: Draining) -> None:
        """The worker leaves. A promise is filled first: what is adopted can move, what is on its way cannot."""
        if worker == self._decode and (self._has_begun or self._promise is None):
            await self._way_out.consider(worker, draining, self._work, self._facts())

    def _take_handed(self, worker: WorkerRef, event: HandedOver) -> None:
        """The worker writes this work no more: the leg is over, and whoever carries on has its pages."""
        batons = self._way_out.batons(worker, event, self._work, self._facts())
        if not batons:
            cause = Unavailable(message=f"{worker.worker} gave {self._work.request} away", reason=Reason.DRAINING)
            raise LegBroken(setback=Setback.LOST, cause=cause)
        self._holdings.release(worker)
        raise LegHandedOver(batons=batons)

    async def _take_failure(self, worker: WorkerRef, event: WorkFailed) -> None:
        """Both ends of a transfer tell of its failure: the later word is about an attempt that was replaced."""
        if event.role is Role.PREFILL and event.attempt != self._work.attempt:
            self._record.note_stale()
            return
        broken = failure_of(worker, event)
        stands = event.reservation_stands or event.role is Role.PREFILL
        if self._promise is None or not stands:
            raise broken
        if not self._has_begun:
            await self._hand_to(await self._renew_after(broken), self._facts())

    async def _renew_after(self, broken: LegBroken) -> WorkerRef:
        """After a failed transfer. Where decode cannot be asked either, prefill's failure was the other end's, which
        the router had not missed yet: who has read the prompt may read it again."""
        was_avoided = self._prefill in self._trouble.avoid
        try:
            return await self._renew(broken)
        except LegBroken as gone:
            if gone.worker == self._decode and self._prefill is not None and not was_avoided:
                self._trouble.avoid.discard(self._prefill)
            raise

    def _facts(self) -> Facts:
        hits = dict(self._track.hints.hits(self._work.context, self._work.cache_scope))
        if (warm := self._trouble.read_by) is not None:
            # It read this very prompt for an attempt that broke later; the directory may not know yet.
            hits[warm.worker] = max(hits.get(warm.worker, 0), len(self._work.prompt))
        avoid = frozenset(self._trouble.avoid)
        return classify(self._work, page_size=self._track.hints.page_size, hits=hits, avoid=avoid)


def _slow_reader(work: Work) -> Refused:
    return Refused(message=f"{work.request}: the client reads slower than tokens come", reason=Reason.SLOW_READER)


def _contradiction(worker: WorkerRef, event: TokensEmitted) -> InternalError:
    """What a worker writes after a token that the client does not have is the continuation of another text."""
    where = f"{event.request}/{event.choice} index {event.first_index}"
    return InternalError(message=f"{worker.worker} drew another token for {where} than the client has")
