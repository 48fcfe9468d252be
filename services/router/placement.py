"""Where a leg's work lies: the workers that were asked for it, the promise between them, and the next one to ask.

start -> reserve on D -> prefill on P           P refused, died, or its pages did not come:
  | '--> start local on D                           renew the promise, another P
  '----> carry on: reserve on D, which fetches  nobody left: LegBroken
"""

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from common.core.errors import BatonError, Reason
from common.core.ids import WorkerRef
from common.core.request import Work
from common.core.ticket import PrefixTicket
from services.router.admission.admission import Place
from services.router.baton import Baton
from services.router.classify import Facts, classify
from services.router.holdings import Holdings
from services.router.policy import Candidate
from services.router.record import Record
from services.router.setback import LegBroken, Setback, no_room, pages_gone
from services.router.track import Track
from services.router.trouble import Trouble

if TYPE_CHECKING:
    from services.router.workers import Promise


class Placement:
    """Owner: a leg. `work` carries the attempt that counts now."""

    def __init__(
        self, *, work: Work, track: Track, place: Place, holdings: Holdings, record: Record, trouble: Trouble
    ) -> None:
        self.work = work
        self.decode: WorkerRef | None = None
        self.prefill: WorkerRef | None = None
        self.promise: Promise | None = None
        self._first_attempt = work.attempt
        self._context = work.context  # of every attempt: made once, so that it is hashed once
        self._track = track
        self._place = place
        self._holdings = holdings
        self._record = record
        self._trouble = trouble

    def is_ours(self, worker: WorkerRef, attempt: int) -> bool:
        """Decode keeps one promise through all attempts of a leg; a prefill worker that was replaced is a zombie."""
        if worker is self.decode or worker == self.decode:  # the same object, nearly every time
            return self._first_attempt <= attempt <= self.work.attempt
        return worker == self.prefill and attempt == self.work.attempt

    async def start(self) -> None:
        """On the route that costs least. Raises LegBroken, or the BatonError that ends the request."""
        facts = self.facts()
        decision = self._track.chooser.route(self.work, facts)
        if decision is None:
            raise no_room(self.work.request)
        self._record.note_decision(self.work.attempt, decision)
        self._track.hints.note_routed(self._context, self.work.cache_scope, decision.route.reader.worker)
        await self._start_on(decision.chosen, facts)

    async def _start_on(self, chosen: Candidate, facts: Facts) -> None:
        route, workers = chosen.route, self._track.workers
        decode = self.decode = route.decode
        unread = route.unread_tokens(facts)
        self._count_on(decode, tokens=0 if route.prefill else unread, pages=facts.num_pages)
        self._place.note_assigned()
        if route.prefill is None:
            prefix = await self._track.borrowing.prefix(self.work, chosen, facts, self._record)
            with self._holdings.blaming(decode):
                await workers.start_local(decode, self.work, prefix)
            return
        self._count_on(route.prefill, tokens=unread, pages=0)
        try:
            with self._holdings.blaming(decode):
                self.promise = await workers.reserve(decode, self.work)
        finally:
            if self.promise is None:  # nothing was asked of the reader: it is not told of an end
                self._holdings.release(route.prefill)
        prefix = await self._track.borrowing.prefix(self.work, chosen, facts, self._record)
        await self._read_on(route.prefill, prefix)

    async def carry_on(self, baton: Baton) -> None:
        """On the worker that has room for it, or on another one; the pages are kept meanwhile.

        Raises LegBroken where nobody has room or the pages cannot be had: they can be computed again, and nobody is to
        blame.
        """
        decode: WorkerRef | None = baton.destination
        facts = self.facts()
        while decode is not None:
            self.decode = decode
            self._count_on(decode, tokens=0, pages=facts.num_pages)
            try:
                with self._holdings.blaming(decode):
                    self.promise = await self._track.workers.reserve(decode, self.work, baton.ticket)
                return
            except LegBroken as broken:
                if broken.setback is not Setback.REFUSED:
                    raise pages_gone(broken.cause) from broken
            except BatonError as error:
                raise pages_gone(error) from error
            self._holdings.drop(decode, self.work)
            facts = replace(facts, avoid=facts.avoid | {decode})
            decode = self._track.chooser.writer(self.work, facts)
        raise no_room(self.work.request)

    async def pass_on(self) -> None:
        """The prompt to another prefill worker, because the one that has it leaves. It stays where nobody else can read
        it, and where decode has its pages already. Raises LegBroken as `renew` does."""
        leaving = self.prefill
        assert leaving is not None, f"{self.work.request} is read by nobody"
        prefill = self._track.chooser.reader(self.work, self.facts(), is_asked_again=True)
        if prefill is not None and await self._promise_again():
            self._holdings.drop(leaving, self.work)
            self._record.note_passed_on()
            await self._hand_to(prefill)

    async def read_elsewhere(self, broken: LegBroken) -> None:
        """By another prefill worker, for the promise that stands. Raises as `_renew`."""
        if (prefill := await self._renew(broken)) is not None:
            await self._hand_to(prefill)

    async def read_again(self, broken: LegBroken) -> None:
        """After a failed transfer. Where decode cannot be asked either, prefill's failure was the other end's, which
        the router had not missed yet: who has read the prompt may read it again."""
        was_avoided = self.prefill in self._trouble.avoid
        try:
            await self.read_elsewhere(broken)
        except LegBroken as gone:
            if gone.worker == self.decode and self.prefill is not None and not was_avoided:
                self._trouble.avoid.discard(self.prefill)
            raise

    async def _hand_to(self, prefill: WorkerRef) -> None:
        self._count_on(prefill, tokens=self.facts().uncached_tokens(prefill.worker), pages=0)
        await self._read_on(prefill, None)

    async def _read_on(self, prefill: WorkerRef, prefix: PrefixTicket | None) -> None:
        """The first one may fetch what another worker has cached."""
        while True:
            assert self.promise is not None
            self.prefill = prefill
            try:
                with self._holdings.blaming(prefill):
                    await self._track.workers.prefill(prefill, self.work, self.promise, prefix)
                return
            except LegBroken as broken:
                other, prefix = await self._renew(broken), None
            if other is None:
                return
            prefill = other
            self._count_on(prefill, tokens=self.facts().uncached_tokens(prefill.worker), pages=0)

    async def _renew(self, broken: LegBroken) -> WorkerRef | None:
        """Points the standing promise at the next attempt; answers which prefill worker is to fill it. None: nobody
        need, as in `_promise_again`.

        Raises `broken` when no other prefill worker is left, or the request itself seems to be the cause.
        """
        if broken.setback is Setback.POISON:
            raise broken
        if self.prefill is not None:  # else pages were to be fetched
            if broken.setback is not Setback.REFUSED:
                self._trouble.avoid.add(self.prefill)
            self._holdings.drop(self.prefill, self.work)
        prefill = self._track.chooser.reader(self.work, self.facts())
        if prefill is None and broken.setback is Setback.REFUSED:
            raise broken
        if prefill is not None and broken.setback is Setback.FAILED:
            await self._track.budget.take()
        if not await self._promise_again():
            return None
        if prefill is None:
            raise broken
        self._record.note_setback(broken.cause)
        return prefill

    async def _promise_again(self) -> bool:
        """For the next attempt. False: decode has its pages already, whatever became of who sent them, or it says
        itself what ended the promise. Raises LegBroken."""
        assert self.promise is not None, f"{self.work.request} has no promise"
        work = replace(self.work, attempt=self._trouble.next_attempt())
        try:
            with self._holdings.blaming(self.promise.worker):
                self.promise = await self._track.workers.renew(self.promise, work)
        except (LegBroken, asyncio.CancelledError) as ended:
            if isinstance(ended, LegBroken) and ended.cause.reason is Reason.RESERVATION_NOT_FOUND:
                return False
            self.work = work  # its answer may be what was lost: the promise is given up as far as it may stand
            raise
        self.work = work
        return True

    def close(self) -> None:
        """The leg is over. The prompt may be asked about by the next one; what was written so far is longer then."""
        if self.work.emitted:
            self._track.hints.forget(self._context)

    def facts(self) -> Facts:
        hits = dict(self._track.hints.hits(self._context, self.work.cache_scope))
        if (warm := self._trouble.read_by) is not None:
            # It read this very prompt for an attempt that broke later; the directory may not know yet.
            hits[warm.worker] = max(hits.get(warm.worker, 0), len(self.work.prompt))
        avoid = frozenset(self._trouble.avoid)
        awaited = self._track.hints.awaited(self._context, self.work.cache_scope)
        return classify(
            self.work,
            page_size=self._track.hints.page_size,
            hits=hits,
            avoid=avoid,
            awaited=awaited,
            answer_tokens=self._place.answer_tokens,
        )

    def _count_on(self, worker: WorkerRef, *, tokens: int, pages: int) -> None:
        sequences = len(self.work.choices)
        self._holdings.count_on(worker, tokens=tokens, pages=pages, sequences=sequences)
