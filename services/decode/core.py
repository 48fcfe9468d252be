"""The decode worker's heart: one object, driven by the step loop alone.

Each turn: expire -> adopt what is complete -> one step of the batch. Pages land beside the steps (worker/landing).
"""

from collections.abc import Callable, Mapping

from common.core.clock import Clock
from common.core.errors import AlreadyExists, Cancelled, ContextLengthExceeded, Reason
from common.core.ids import RequestId, ReservationId, RouterRef, SequenceId
from common.core.request import Work
from common.core.worker import LoadReport
from common.engine.look import Look, totals
from common.engine.plan import reserve_of
from common.engine.rate import Rate
from common.engine.rule import TokenRule
from common.engine.telling import Teller
from common.engine.tombstones import Tombstones
from common.kv.cache import PageCache
from common.kv.layout import PageLayout
from common.worker.permit import PagesLanded, Permit
from common.worker.prefix_desk import PrefixDesk, PrefixPromise
from common.worker.retention import Retention
from services.decode.counters import DecodeCounters
from services.decode.departures import Departures, name_of
from services.decode.desk import PromiseDesk, no_pages
from services.decode.messages import DecodeEvent, RoleEvent
from services.decode.reservations import Opening, Promise
from services.decode.runner import Runner


class DecodeCore:
    """Writer of everything on this worker, through its parts. Every method runs on the step loop.

    `overcommit`: how many times the pool the worst cases of all admitted sequences may add up to.
    """

    def __init__(
        self,
        *,
        desk: PromiseDesk,
        runner: Runner,
        departures: Departures,
        retention: Retention,
        prefixes: PrefixDesk,
        cache: PageCache,
        layout: PageLayout,
        teller: Teller[RoleEvent],
        counters: DecodeCounters,
        overcommit: float,
        max_sequences: int,
        clock: Clock,
    ) -> None:
        self._desk = desk
        self._runner = runner
        self._departures = departures
        self.retention = retention
        self.prefixes = prefixes
        self._cache = cache
        self._layout = layout
        self._teller = teller
        self.counters = counters
        self._overcommit = overcommit
        self._max_sequences = max_sequences
        self._clock = clock
        self._tombstones = Tombstones()
        self._rate = Rate()
        self._reading = Rate()

    # Commands

    def reserve(self, work: Work, rule: TokenRule | None = None) -> Promise:
        """Promise pages for a context that another worker computes. Idempotent per (request, attempt). `rule`: the
        state of its constraint, which has accepted what an earlier attempt emitted.

        Raises Refused(NO_PAGES) when pages or sequences are short, ContextLengthExceeded when it can never fit.
        """
        standing = self._desk.standing(work)
        if standing is not None:
            return standing
        self._check_admissible(work)
        return self._desk.promise(work, rule)

    def start_local(self, work: Work, rule: TokenRule | None = None) -> None:
        """Read the prompt here, as the router decided. Idempotent per (request, attempt). Raises as `reserve`."""
        if self._runner.attempt_of(SequenceId(work.request, work.choices[0].index)) == work.attempt:
            return
        self._check_admissible(work)
        self._runner.add(work, arrived=self._clock.monotonic(), rule=rule)

    def fetch_prefix(self, work: Work, num_pages: int) -> PrefixPromise | None:
        """Room for cached pages that the local prompt waits for from now on. None: it is read as it is."""
        sequence = SequenceId(work.request, work.choices[0].index)
        if not self._runner.is_waiting(sequence, work.attempt):
            return None
        if (promise := self.prefixes.promise(work, num_pages)) is not None:
            self._runner.note_coming(sequence, num_pages)
        return promise

    def renew(self, reservation: ReservationId, attempt: int) -> Promise:
        """Point a standing promise at a newer attempt. Raises NotFound, Fenced."""
        return self._desk.renew(reservation, attempt)

    def landed(self, landed: PagesLanded) -> None:
        """Verified bytes are in their pages."""
        self._desk.landed(landed)

    def left(self, permit: Permit) -> None:
        """Nobody writes under this permit any more, which was revoked meanwhile."""
        self._desk.left(permit)

    def complete(self, reservation: ReservationId, attempt: int, opening: Opening) -> None:
        """What prefill drew has arrived."""
        self._desk.complete(reservation, attempt, opening)

    def cancel(self, request: RequestId, attempt: int) -> None:
        """Give up a request's attempts up to this one, and remember it: a late start stays refused."""
        self.cancel_all({request: attempt})

    def cancel_all(self, attempts: Mapping[RequestId, int]) -> None:
        """The same for many requests, in one pass: a router may give up everything it has here at once."""
        for request, attempt in attempts.items():
            self._tombstones.add(request, attempt)
        self._give_up(lambda work: work.attempt <= attempts.get(work.request, 0))

    def end_choices(self, request: RequestId, attempt: int, choices: tuple[int, ...]) -> None:
        """Stop writing some choices of a request whose others go on: their text is complete."""
        names = {name_of(request, choice) for choice in choices}
        self.counters.aborted += self._runner.end_choices(request, attempt, choices)
        self.counters.aborted += self.retention.give_up(lambda name, work: name in names and work.attempt <= attempt)

    def cancel_router(self, router: RouterRef) -> None:
        """The router is gone: nobody reads its tokens."""
        self._give_up(lambda work: work.router == router)

    def _give_up(self, is_meant: Callable[[Work], bool]) -> None:
        self.counters.aborted += self._desk.give_up(is_meant) + self._runner.give_up(is_meant)
        self.prefixes.give_up(is_meant)
        self.counters.aborted += self.retention.give_up(lambda _name, work: is_meant(work))

    # Leaving

    def hand_over(self, request: RequestId, attempt: int) -> int:
        """Stop writing a request for another decode worker to go on with: see departures.py. Idempotent."""
        return self._departures.hand_over(request, attempt)

    def cut(self) -> None:
        """The drain is over: what is left is told to be, so that routers need not find out by silence."""
        why = "the worker leaves"
        self.counters.cut += self._desk.fail_all(Reason.DRAINING, why) + self._runner.fail_all(Reason.DRAINING, why)
        self.prefixes.give_up(lambda _work: True)
        self.counters.cut += self.retention.give_up(lambda _name, _work: True)

    # Admission

    def _check_admissible(self, work: Work) -> None:
        """Raise whatever speaks against this work: it is over, it is here, it never fits, or it does not fit now."""
        if self._tombstones.covers(work.request, work.attempt):
            raise Cancelled(message=f"{work.request} attempt {work.attempt} was cancelled before it arrived")
        for choice in work.choices:
            if self._runner.attempt_of(SequenceId(work.request, choice.index)) is not None:
                raise AlreadyExists(message=f"{work.request}/{choice.index} runs here under another attempt")
        worst, total = self._worst_pages(work) * len(work.choices), self._cache.counts().total
        if worst > total:
            raise ContextLengthExceeded(
                message=f"{work.request} may need {worst} pages, this worker has {total}: lower max_tokens or n"
            )
        why = self._why_no_room(work, worst, total)
        if why is not None:
            self.counters.promises_refused += 1
            raise no_pages(why)

    def _why_no_room(self, work: Work, worst: int, total: int) -> str | None:
        if self._runner.num_preempted:
            return f"{self._runner.num_preempted} preempted sequences wait for pages already"
        promised, running = self._desk.works(), self._runner.works()
        admitted = sum(self._worst_pages(each) * len(each.choices) for each in promised)
        admitted += sum(self._worst_pages(each) for each in running)
        spare = reserve_of(work.priority, int(total * self._overcommit)) if admitted else 0
        most = int(total * self._overcommit) - spare
        if admitted + worst > most:
            return f"the worst case of {admitted + worst} pages exceeds the {most} of {work.priority} requests"
        sequences = len(running) + sum(len(each.choices) for each in promised) + len(work.choices)
        most = self._max_sequences - (reserve_of(work.priority, self._max_sequences) if admitted else 0)
        if sequences > most:
            return f"{sequences} sequences wanted, the limit of {work.priority} requests is {most}"
        return None

    def _worst_pages(self, work: Work) -> int:
        """Pages of one choice that runs to its last allowed token."""
        return self._layout.pages_for(len(work.prompt) + work.sampling.max_tokens)

    # One turn

    def advance(self) -> bool:
        now = self._clock.monotonic()
        self._desk.expire(now)
        self._runner.expire(now)
        self.prefixes.expire(now)
        self.retention.give_up(lambda _name, work: now >= work.deadline)
        kept = self._desk.take_kept()
        for reservation in kept:
            self._runner.adopt(reservation)
        read = self.counters.local_prompt_tokens
        drawn = self._runner.num_drawn
        stepped = self._runner.step()
        self._reading.add(self.counters.local_prompt_tokens - read, now)
        if stepped:
            self._rate.add(self._runner.num_drawn - drawn, now)
        return bool(kept) or stepped

    def take_events(self) -> tuple[DecodeEvent, ...]:
        return self._teller.take(self._cache.drain_changes())

    def look(self) -> Look:
        """A snapshot between two turns."""
        runner = self._runner
        unread = runner.unread()
        load = LoadReport(
            pages=self._cache.counts(),
            waiting_requests=runner.num_waiting + len(self._desk),
            waiting_tokens=sum(unread),
            unread_prompts=len(unread),
            running_sequences=runner.num_active,
            step_seconds=runner.last_step.seconds,
            step_batch=len(runner.last_step.extended),
            tokens_per_second=self._rate.per_second(self._clock.monotonic()),
            read_tokens_per_second=self._reading.per_second(self._clock.monotonic()),
            steps=runner.steps,
            max_sequences=self._max_sequences,
            context_tokens=runner.context_tokens,
        )
        return Look(
            load=load,
            counters=totals(self.counters, self._cache.counters()),
            empty_slots=runner.empty_slots,
            reservations=len(self._desk),
        )
