"""The prefill worker's heart: one object, driven by the step loop alone.

Each turn: expire -> gather what is ready and finds staging -> admit -> one step -> emit first tokens, plan exports.
Where layers are shipped in groups, what a step has done of them is gathered while it goes on (early.py). What leaves is
in exports.py.
A prompt's pages become cache as soon as its last run is gathered, whatever the decode worker does meanwhile.
"""

from collections.abc import Callable, Mapping

from common.core.clock import Clock
from common.core.errors import AlreadyExists, Cancelled, ContextLengthExceeded, Reason, Refused
from common.core.ids import RequestId, RouterRef, SequenceId
from common.core.request import Work
from common.core.worker import LoadReport
from common.engine.batch import Batch
from common.engine.kindred import is_kin_read
from common.engine.look import Look, totals
from common.engine.outcome import BatchOutcome
from common.engine.plan import BatchPlan
from common.engine.rate import Rate
from common.engine.rule import TokenRule
from common.engine.stepper import Stepper
from common.engine.telling import Stepped, Teller, prompt_scored
from common.engine.tombstones import Tombstones
from common.engine.turns import WINDOW_STEPS, Shares
from common.kv.cache import PageCache
from common.kv.layout import PageLayout
from common.observe.lifetime import Station
from common.worker.prefix_desk import PrefixDesk, PrefixPromise
from common.worker.retention import Retention
from services.prefill.early import EarlyExports
from services.prefill.exports import Exports
from services.prefill.gatherer import Gatherer
from services.prefill.messages import Destination, Exporting, PrefillEvent
from services.prefill.prompt import PrefillCounters, Prompt
from services.prefill.scheduler import PrefillLimits, plan_admission, plan_step


class PrefillCore:
    """Writer of the batch, the cache and the prompts. Every method runs on the step loop."""

    def __init__(
        self,
        *,
        batch: Batch,
        stepper: Stepper,
        cache: PageCache,
        layout: PageLayout,
        gatherer: Gatherer,
        retention: Retention,
        prefixes: PrefixDesk,
        limits: PrefillLimits,
        max_waiting: int,
        teller: Teller[Exporting],
        counters: PrefillCounters,
        clock: Clock,
    ) -> None:
        self._batch = batch
        self._stepper = stepper
        self._cache = cache
        self._layout = layout
        self.retention = retention
        self.prefixes = prefixes
        self._limits = limits
        self._max_waiting = max_waiting
        self._clock = clock
        self._prompts: dict[SequenceId, Prompt] = {}
        self._shares = Shares(WINDOW_STEPS * limits.step_tokens)
        self._exports = Exports(
            self._prompts,
            batch=batch,
            gatherer=gatherer,
            retention=retention,
            given=self._shares.given,
            teller=teller,
            counters=counters,
        )
        self.gatherer = gatherer
        """Whoever knows the receivers tells it of their lanes."""
        self.early = EarlyExports(self._prompts, batch=batch, gatherer=gatherer, counters=counters)
        self._tombstones = Tombstones()
        self._rate = Rate()
        self._teller = teller
        self._last_step = BatchOutcome()
        self._steps = 0
        self.counters = counters

    # Commands

    def submit(self, work: Work, destination: Destination | None, rule: TokenRule | None = None) -> int:
        """Queue a prompt; the number of prompts ahead of it. Idempotent per (request, attempt). `rule`: see Batch.add.

        Without a destination its pages are kept once they are read (worker/retention.py). Raises Refused when the queue
        is full or too much is kept, ContextLengthExceeded when the prompt can never fit.
        """
        identity = SequenceId(work.request, work.choices[0].index)
        standing = self._prompts.get(identity)
        if (standing is not None and standing.work.attempt == work.attempt) or self._keeps(work):
            return 0
        if self._tombstones.covers(work.request, work.attempt):
            raise Cancelled(message=f"{work.request} attempt {work.attempt} was cancelled before it arrived")
        if standing is not None:
            raise AlreadyExists(message=f"{identity} is read here under attempt {standing.work.attempt}")
        pages, total = self._layout.pages_for(len(work.context)), self._cache.counts().total
        if pages > total:
            raise ContextLengthExceeded(message=f"{work.request} needs {pages} pages, this worker has {total}")
        waiting = sum(not prompt.has_begun for prompt in self._prompts.values())
        if waiting >= self._max_waiting:
            raise Refused(message=f"{waiting} prompts wait already", reason=Reason.QUEUE_FULL, retry_after_s=0.5)
        if destination is None:
            self._check_keeping(work, pages)
        now = self._clock.monotonic()
        sequence = self._batch.add(work, arrived=now, rule=rule)
        self._prompts[sequence] = Prompt(work=work, destination=destination, sequence=sequence)
        self._teller.station(work, Station.PREFILL_QUEUED, tokens=len(work.context))
        return waiting

    def _keeps(self, work: Work) -> bool:
        return self.retention.attempt_of(work.request) == work.attempt

    def _check_keeping(self, work: Work, pages: int) -> None:
        """Raises Refused, or AlreadyExists while another attempt's pages are kept."""
        if work.request in self.retention:
            raise AlreadyExists(message=f"the pages of another attempt of {work.request} are kept here")
        coming = [prompt.work for prompt in self._prompts.values() if prompt.destination is None]
        coming_pages = sum(self._layout.pages_for(len(each.context)) for each in coming)
        self.retention.check_room(pages, coming_requests=len(coming), coming_pages=coming_pages)

    def fetch_prefix(self, work: Work, num_pages: int) -> PrefixPromise | None:
        """Room for cached pages that the queued prompt waits for from now on. None: it is read as it is."""
        prompt = self._prompts.get(SequenceId(work.request, work.choices[0].index))
        if prompt is None or prompt.has_begun or prompt.work.attempt != work.attempt:
            return None
        if (promise := self.prefixes.promise(work, num_pages)) is not None:
            self._batch.note_coming(prompt.sequence, num_pages)
        return promise

    def cut(self) -> None:
        """The drain is over: what is left is told to be, so that routers need not find out by silence."""
        for prompt in tuple(self._prompts.values()):
            self.counters.cut += 1
            self._teller.fail(prompt.work, Reason.DRAINING, "the worker leaves", reservation_stands=True)
            self._exports.drop(prompt, "the worker leaves")
        self.prefixes.give_up(lambda _work: True)
        self.counters.cut += self.retention.give_up(lambda _name, _work: True)

    def cancel(self, request: RequestId, attempt: int) -> None:
        """Give up a request's attempts up to this one, and remember it: a late start stays refused."""
        self.cancel_all({request: attempt})

    def cancel_all(self, attempts: Mapping[RequestId, int]) -> None:
        """The same for many requests, in one pass: a router may give up everything it has here at once."""
        for request, attempt in attempts.items():
            self._tombstones.add(request, attempt)
        self._give_up(lambda work: work.attempt <= attempts.get(work.request, 0), "cancelled")

    def cancel_router(self, router: RouterRef) -> None:
        """The router is gone: nobody reads its tokens."""
        self._give_up(lambda work: work.router == router, "the router is gone")

    def _give_up(self, is_meant: Callable[[Work], bool], why: str) -> None:
        for prompt in tuple(self._prompts.values()):
            if is_meant(prompt.work):
                self.counters.aborted += 1
                self._exports.drop(prompt, why)
        self.prefixes.give_up(is_meant)
        self.counters.aborted += self.retention.give_up(lambda _name, work: is_meant(work))

    # One turn

    def advance(self) -> bool:
        self._expire(self._clock.monotonic())
        gathered = self._exports.gather_ready()
        stepped = self._step()
        return self._exports.gather_ready() or gathered or stepped

    def take_events(self) -> tuple[PrefillEvent, ...]:
        return self._teller.take(self._cache.drain_changes())

    def _expire(self, now: float) -> None:
        for prompt in tuple(self._prompts.values()):
            if now >= prompt.work.deadline:
                self.counters.expired += 1
                self._teller.fail(
                    prompt.work, Reason.DEADLINE_EXCEEDED, "the prompt was not read in time", reservation_stands=True
                )
                self._exports.drop(prompt, "deadline")
        self.prefixes.expire(now)
        self.counters.expired += self.retention.give_up(lambda _name, work: now >= work.deadline)

    def _step(self) -> bool:
        did_work = False
        for outcome in self._stepper.turn(self._plan):
            self._absorb(outcome)
            did_work |= bool(outcome.extended or outcome.failed or outcome.num_orphans)
        return did_work or self._stepper.is_flying

    def _plan(self) -> BatchPlan:
        """A prompt whose every token is launched has nothing more to compute."""
        self._admit()
        begun = (prompt for prompt in self._prompts.values() if prompt.has_begun and prompt.finale is None)
        active = tuple(
            self._batch.view(prompt.sequence) for prompt in begun if not self._batch[prompt.sequence].num_drawing
        )
        plan = plan_step(active, limits=self._limits, given=self._shares.given)
        self._shares.note(active, plan)
        return plan

    def _absorb(self, outcome: BatchOutcome) -> None:
        self._steps += 1
        self._last_step = outcome
        self._rate.add(outcome.num_tokens, self._clock.monotonic())
        stepped = Stepped(
            num_rows=len(outcome.extended),
            num_tokens=outcome.num_tokens,
            work=outcome.work,
            seconds=outcome.seconds,
        )
        self._teller.say(stepped)
        self.counters.computed_tokens += outcome.num_tokens
        self.counters.deferred_rows += len(outcome.deferred)
        for sequence in outcome.failed:
            self.counters.failed_rows += 1
            prompt = self._prompts[sequence]
            self._teller.fail(prompt.work, Reason.INTERNAL, f"the step failed for {sequence}", reservation_stands=True)
            self._exports.drop(prompt, "step failed")
        for scored in outcome.scored:
            for event in prompt_scored(scored.work, scored.logprobs, first_position=scored.first_position):
                self._teller.tell(scored.work, event)
        self._exports.emit(outcome.drawn)
        for sequence in outcome.extended:
            if sequence in self._prompts:
                computed = self._batch[sequence].num_computed
                self._teller.station(self._prompts[sequence].work, Station.CHUNK_COMPUTED, tokens=computed)
                self._exports.plan(self._prompts[sequence])

    def _admit(self) -> None:
        waiting = tuple(
            self._batch.view(prompt.sequence)
            for prompt in self._prompts.values()
            if not (prompt.has_begun or self.prefixes.awaits(prompt.work.request))
        )
        active = sum(prompt.has_begun for prompt in self._prompts.values())
        admitted = plan_admission(
            waiting,
            num_active=active,
            available_pages=self._cache.available() - self._owed(),
            limits=self._limits,
            given=self._shares.given,
        )
        readers = [self._batch[each.sequence] for each in self._prompts.values() if each.has_begun] if admitted else []
        for sequence in admitted:
            prompt, begun = self._prompts[sequence], self._batch[sequence]
            if is_kin_read(begun, readers, self._layout.page_size) or self.prefixes.brings(begun):
                continue
            prompt.has_begun = True
            self._batch.begin(sequence)
            readers.append(begun)
            cached = begun.num_cached
            self.counters.prompt_tokens += len(prompt.work.context)
            self.counters.cached_tokens += cached
            self._teller.station(prompt.work, Station.PREFILL_STARTED, cached_tokens=cached)
            self._exports.plan(prompt)

    def _owed(self) -> int:
        """Pages that prompts being read will still allocate."""
        pages_for = self._layout.pages_for
        begun = [self._batch[prompt.sequence] for prompt in self._prompts.values() if prompt.has_begun]
        return sum(pages_for(len(sequence.work.context)) - len(sequence.pages) for sequence in begun)

    # Looking

    def look(self) -> Look:
        """A snapshot between two turns."""
        counters = totals(self.counters, self._cache.counters())
        return Look(load=self._load(), counters=counters, empty_slots=self._batch.empty_slots)

    def _load(self) -> LoadReport:
        waiting = [prompt for prompt in self._prompts.values() if not prompt.has_begun]
        unread = [self._batch[each.sequence].num_unread for each in self._prompts.values() if each.finale is None]
        return LoadReport(
            pages=self._cache.counts(),
            waiting_requests=len(waiting),
            waiting_tokens=sum(unread),
            unread_prompts=len(unread),
            running_sequences=len(self._prompts) - len(waiting),
            outstanding_exports=self._exports.num_lent,
            step_seconds=self._last_step.seconds,
            step_batch=len(self._last_step.extended),
            tokens_per_second=self._rate.per_second(self._clock.monotonic()),
            steps=self._steps,
        )
