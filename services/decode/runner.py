"""The running batch: sequences that decode, local prompts beside them, and those that wait for pages.

added or adopted -> WAITING (no pages) -> ACTIVE -> finished
                       ^--- preempted ------'

Steps may be ahead of what is known here: common/engine/flight.py.
"""

from collections.abc import Callable
from dataclasses import replace

from common.core.errors import InternalError, Reason
from common.core.ids import RequestId, SequenceId
from common.core.request import Work
from common.engine.batch import Batch
from common.engine.kindred import Kin, is_kin_read
from common.engine.outcome import BatchOutcome, Drawn
from common.engine.plan import BatchPlan
from common.engine.rule import TokenRule
from common.engine.stepper import Stepper
from common.engine.telling import Stepped, Teller, prefill_done, prompt_scored, tokens_emitted
from common.engine.turns import WINDOW_STEPS, Shares
from common.kv.cache import PageCache
from common.observe.lifetime import Station
from services.decode.budget import ExtendBudget
from services.decode.counters import DecodeCounters
from services.decode.messages import RoleEvent
from services.decode.reservations import Reservation
from services.decode.scheduler import DecodeLimits, plan_admission, plan_step


class Runner:
    """Writer of the batch and of who is active. Owner: the decode core."""

    def __init__(
        self,
        *,
        batch: Batch,
        stepper: Stepper,
        cache: PageCache,
        limits: DecodeLimits,
        budget: ExtendBudget,
        teller: Teller[RoleEvent],
        counters: DecodeCounters,
        is_awaited: Callable[[RequestId], bool],
        is_brought: Callable[[Kin], bool],
    ) -> None:
        """`is_awaited`: whether pages of a request's prompt are on their way, for which it waits. `is_brought`: whether
        pages that it lacks are on their way for another's."""
        self._batch = batch
        self._stepper = stepper
        self._cache = cache
        self._limits = limits
        self._budget = budget
        self._teller = teller
        self._counters = counters
        self._is_awaited = is_awaited
        self._shares = Shares(WINDOW_STEPS * limits.idle_extend_tokens)
        self._is_brought = is_brought
        self._active: dict[SequenceId, None] = {}
        self._waiting: dict[SequenceId, None] = {}
        self._reading: tuple[SequenceId, ...] = ()
        """Of the active, as of the last plan."""
        self._has_newcomer = False
        self.last_step = BatchOutcome()
        self.steps = 0
        self.num_drawn = 0
        """Tokens of all steps."""

    @property
    def num_active(self) -> int:
        return len(self._active)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_preempted(self) -> int:
        """Sequences that lost their pages and wait for others."""
        return sum(self._batch[sequence].num_preemptions > 0 for sequence in self._waiting)

    def unread(self) -> tuple[int, ...]:
        """Of each prompt that is not read, the tokens that are still to be computed."""
        active, batch = self._active, self._batch
        reading = (batch[each] for each in self._reading if each in active)
        left = [sequence.num_pending for sequence in reading if not sequence.is_decoding]
        return (*left, *(batch[sequence].num_unread for sequence in self._waiting))

    @property
    def context_tokens(self) -> int:
        """What the running sequences attend to in one step."""
        return self.last_step.work.decode_context if self._active else 0

    def works(self) -> tuple[Work, ...]:
        """The work of every sequence here, once per sequence."""
        return tuple(self._batch[sequence].work for sequence in (*self._active, *self._waiting))

    def attempt_of(self, sequence: SequenceId) -> int | None:
        """The attempt under which a sequence is here, or None."""
        return self._batch[sequence].work.attempt if sequence in self._batch else None

    def is_waiting(self, sequence: SequenceId, attempt: int) -> bool:
        """Whether this attempt is here and has not begun, or begins again."""
        return sequence in self._waiting and self._batch[sequence].work.attempt == attempt

    def note_coming(self, sequence: SequenceId, num_pages: int) -> None:
        """It waits for so many of its leading pages, which another worker sends."""
        self._batch.note_coming(sequence, num_pages)

    def add(self, work: Work, *, arrived: float, rule: TokenRule | None = None) -> None:
        """A local prompt: it begins when its pages fit."""
        self._waiting[self._batch.add(work, arrived=arrived, rule=rule)] = None
        self._teller.station(work, Station.PREFILL_QUEUED, tokens=len(work.context))

    def adopt(self, kept: Reservation) -> None:
        """Pages and first tokens of a kept promise become running sequences. A first token that the work's constraint
        refuses fails the work: a wrong answer is worse than none."""
        opening = kept.opening
        assert opening is not None
        for event in prompt_scored(kept.work, opening.prompt_logprobs):
            self._teller.tell(kept.work, event)
        try:
            drawn = self._batch.adopt(
                kept.work,
                kept.pages,
                opening.first_tokens,
                arrived=kept.made_at,
                held=kept.held,
                prompt_scores=opening.prompt_logprobs,
                rule=kept.rule,
            )
        except InternalError as error:
            self._counters.refused_tokens += 1
            self._cache.release(kept.pages)
            self._teller.fail(kept.work, Reason.INTERNAL, error.message)
            return
        self._has_newcomer = True
        self._emit(drawn)
        self._teller.station(kept.work, Station.RUNNING)

    def step(self) -> bool:
        """Admit who fits, plan, compute, emit. False when there was nothing to compute."""
        did_work = False
        for outcome in self._stepper.turn(self._plan):
            self._absorb(outcome)
            did_work |= bool(outcome.extended or outcome.preempted or outcome.failed or outcome.num_orphans)
        return did_work or self._stepper.is_flying

    def settle(self) -> None:
        """Learn everything that is being drawn: until the next step the batch is what routers are told it is."""
        for outcome in self._stepper.settle():
            self._absorb(outcome)

    def _plan(self) -> BatchPlan:
        self._admit()
        batch, going_on = self._batch, tuple(self._active)
        if batch.num_in_flight:
            going_on = tuple(each for each in going_on if not batch.is_ending(each))
        active = tuple([batch.view(each) for each in going_on])
        self._reading = tuple([view.id for view in active if not view.is_decoding])
        num_decoding = len(active) - len(self._reading)
        extend_tokens = self._budget.tokens(num_decoding, has_newcomer=self._has_newcomer)
        self._has_newcomer = False
        limits = replace(self._limits, extend_tokens=extend_tokens)
        plan = plan_step(active, available_pages=self._cache.available(), limits=limits, given=self._shares.given)
        self._shares.note(active, plan)
        return plan

    def _absorb(self, outcome: BatchOutcome) -> None:
        """What a step led to: told, counted, and the batch gone on."""
        self._note(outcome)
        self._put_back(outcome)
        for scored in outcome.scored:
            for event in prompt_scored(scored.work, scored.logprobs, first_position=scored.first_position):
                self._teller.tell(scored.work, event)
        for draw in outcome.drawn:
            if draw.index == draw.work.first_index and draw.choice == draw.work.choices[0]:
                source = self._batch[draw.source]
                self._teller.station(draw.work, Station.CHUNK_COMPUTED, tokens=source.num_computed)
                self._teller.tell(draw.work, prefill_done(draw.work, source.num_cached))
        self._emit(outcome.drawn)

    def _admit(self) -> None:
        begins = [sequence for sequence in self._waiting if not self._is_awaited(sequence.request)]
        waiting = tuple(self._batch.view(sequence) for sequence in begins)
        admitted = plan_admission(
            waiting,
            num_active=len(self._active),
            available_pages=self._cache.available(),
            limits=self._limits,
            given=self._shares.given,
        )
        readers = [self._batch[each] for each in self._active if not self._batch[each].is_read] if admitted else []
        for sequence in admitted:
            begun = self._batch[sequence]
            if is_kin_read(begun, readers, self._limits.page_size) or self._is_brought(begun):
                continue
            del self._waiting[sequence]
            self._batch.begin(sequence)
            self._active[sequence] = None
            readers.append(begun)
            if not begun.num_preemptions:
                self._teller.station(begun.work, Station.PREFILL_STARTED, cached_tokens=begun.num_cached)

    def _note(self, outcome: BatchOutcome) -> None:
        """Count what the step did, and learn what it cost."""
        plan = outcome.plan
        self.steps += 1
        self.last_step = outcome
        self.num_drawn += len(outcome.drawn)
        done = frozenset(outcome.extended)
        for extend in plan.extend:
            if extend.sequence in done and self._batch[extend.sequence].num_preemptions:
                self._counters.recomputed_tokens += extend.num_tokens
            elif extend.sequence in done:
                self._counters.local_prompt_tokens += extend.num_tokens
        num_decoding = len(done.intersection(plan.decode))
        self._counters.decoded_tokens += num_decoding
        self._counters.deferred_rows += len(outcome.deferred)
        self._counters.orphan_rows += outcome.num_orphans
        num_extended = outcome.num_tokens - num_decoding - outcome.num_orphans
        self._budget.observe(num_decoding=num_decoding, num_extended=num_extended, seconds=outcome.seconds)
        self._teller.say(
            Stepped(num_rows=len(done), num_tokens=outcome.num_tokens, work=outcome.work, seconds=outcome.seconds)
        )

    def _put_back(self, outcome: BatchOutcome) -> None:
        """The preempted wait again, with their age; the failed leave."""
        for sequence in outcome.preempted:
            self._counters.preemptions += 1
            del self._active[sequence]
            self._waiting[sequence] = None
            self._teller.station(self._batch[sequence].work, Station.PREEMPTED)
        for sequence in outcome.failed:
            self._counters.failed_rows += 1
            self._teller.fail(self._batch[sequence].work, Reason.INTERNAL, f"the step failed for {sequence}")
            self._remove(sequence)

    def _emit(self, drawn: tuple[Drawn, ...]) -> None:
        """Tell the routers what was drawn and let the batch go on with it."""
        for draw in drawn:
            self._teller.tell(draw.work, tokens_emitted(draw))
            if draw.finish is not None:
                self._active.pop(draw.source, None)
                self._counters.finished += 1
        self._batch.proceed(drawn)
        for draw in drawn:
            if draw.finish is None:
                self._active.setdefault(draw.sequence)

    def expire(self, now: float) -> None:
        """Nobody waits any more for what is late."""
        for sequence in (*self._active, *self._waiting):
            work = self._batch[sequence].work
            if now >= work.deadline:
                self._teller.fail(work, Reason.DEADLINE_EXCEEDED, f"{sequence} ran out of time")
                self._remove(sequence)

    @property
    def empty_slots(self) -> int:
        return self._batch.empty_slots

    def give_up(self, is_meant: Callable[[Work], bool]) -> int:
        """Remove the sequences of cancelled work; how many there were."""
        meant = [each for each in (*self._active, *self._waiting) if is_meant(self._batch[each].work)]
        for sequence in meant:
            self._remove(sequence)
        return len(meant)

    def end_choices(self, request: RequestId, attempt: int, choices: tuple[int, ...]) -> int:
        """Remove choices that run on their own; a sequence that still stands for several goes on."""
        named = [SequenceId(request, choice) for choice in choices]
        meant = [each for each in named if each in self._batch and len(self._batch[each].choices) == 1]
        ended = [each for each in meant if self._batch[each].work.attempt <= attempt]
        for sequence in ended:
            self._remove(sequence)
        return len(ended)

    def sequences_of(self, request: RequestId, attempt: int) -> tuple[SequenceId, ...]:
        """Whatever is here of a request's attempts up to this one."""
        works = ((each, self._batch[each].work) for each in (*self._active, *self._waiting))
        return tuple(each for each, work in works if work.request == request and work.attempt <= attempt)

    def dismiss(self, sequence: SequenceId) -> None:
        """It goes on elsewhere."""
        self._remove(sequence)

    def fail_all(self, reason: Reason, message: str) -> int:
        """Give everything up, and tell; how many sequences there were."""
        left = (*self._active, *self._waiting)
        for sequence in left:
            self._teller.fail(self._batch[sequence].work, reason, message)
            self._remove(sequence)
        return len(left)

    def _remove(self, sequence: SequenceId) -> None:
        self._active.pop(sequence, None)
        self._waiting.pop(sequence, None)
        self._batch.retire(sequence)
