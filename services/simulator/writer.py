"""A decode worker that takes every step: the production schedulers decide, the cost model says how long.

Each turn, as in `services/decode/core.py`: commands -> admit -> plan -> one step. What the step drew is known when its
time has passed. A dual worker also reads prompts for others: they extend like local ones, and leave when they are read.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import cast

from common.core.ids import SequenceId, WorkerRef
from common.core.worker import LoadReport, Role
from common.directory.owners import Slot
from common.engine.kindred import is_kin_read
from common.engine.plan import BatchPlan, SequenceView, reserve_of
from services.decode.budget import ExtendBudget
from services.decode.scheduler import DecodeLimits, plan_admission, plan_step
from services.simulator.cluster import ClusterShape
from services.simulator.context import step_work
from services.simulator.job import Answer, Job, JobContext, Told
from services.simulator.outcome import Gaps, MachineTally
from services.simulator.pages import CountedPages
from services.simulator.timeline import Timeline

OVERCOMMIT = 2.0
MIN_EXTEND_TOKENS = 8
WATERMARK = 0.02
"""As `services/decode/app.py` composes the core; a test compares them."""


class SteppedWriter:
    """Writer of its pages and contexts. Others post commands, which it carries out between two steps."""

    def __init__(
        self,
        ref: WorkerRef,
        *,
        slot: Slot,
        pages: CountedPages,
        page_size: int,
        shape: ClusterShape,
        timeline: Timeline,
        told: Told,
        gaps: Gaps,
    ) -> None:
        self.ref = ref
        self.role = Role.DECODE
        self.slot = slot
        self.pages = pages
        self.tally = MachineTally(name=ref.worker)
        self.version = 0
        self._page_size = page_size
        self._cost = shape.cost
        self._turn_s = shape.turn_s
        self._max_sequences = shape.max_sequences
        self._timeline = timeline
        self._told = told
        self._gaps = gaps
        self._limits = DecodeLimits(
            page_size=page_size,
            max_sequences=shape.max_sequences,
            extend_tokens=shape.extend_tokens,
            idle_extend_tokens=shape.chunk_tokens,
            watermark_pages=max(1, int(pages.counts().total * WATERMARK)),
        )
        self._budget = ExtendBudget(
            itl_budget_s=shape.itl_budget_s, ceiling=shape.extend_tokens, floor=MIN_EXTEND_TOKENS
        )
        self._commands: list[Callable[[], None]] = []
        self._waiting: dict[SequenceId, JobContext] = {}
        self._active: dict[SequenceId, JobContext] = {}
        self._promised: dict[SequenceId, Job] = {}
        self._worst_pages = 0
        self._is_busy = False
        self._has_newcomer = False
        self._stepped_at = 0.0
        self._context_tokens = 0

    # Commands

    def post(self, command: Callable[[], None]) -> None:
        """Run it before the next step."""
        self._commands.append(command)
        if not self._is_busy:
            self._is_busy = True
            self._timeline.at(self._timeline.now, self._turn)

    def reserve(self, context: JobContext, job: Job, answer: Answer) -> None:
        """Promise pages for a context that another machine reads."""
        if not self._has_room(job):
            answer(False)
            return
        names = job.request.pages
        context.hold(self.pages, names[: self.pages.find(names)], self._page_size)
        held = context.pages_held
        if not context.promise(self.pages, -(-context.prompt_tokens // self._page_size)):
            context.give_back(self.pages)
            answer(False)
            return
        job.held_pages = held
        context.arrived = self._timeline.now
        self._promised[context.id] = job
        self._worst_pages += job.worst_pages
        answer(True)

    def start_local(self, context: JobContext, job: Job, answer: Answer) -> None:
        """Read the prompt here; a dual machine also reads for others, who promised the answer's pages."""
        if not context.is_export:
            if not self._has_room(job):
                answer(False)
                return
            self._worst_pages += job.worst_pages
        context.arrived = context.job.served.queued = self._timeline.now
        context.foresee(self.pages, (*self._active.values(), *self._waiting.values()), self._page_size)
        self._waiting[context.id] = context
        answer(True)

    def adopt(self, context: JobContext) -> None:
        """The pages of a promised context have landed: its answer is written here."""
        del self._promised[context.id]
        context.job.served.running = self._timeline.now
        self.pages.fulfil(context.private_pages)
        context.num_pending = 0
        context.name_full(self.pages, self._page_size)
        self._has_newcomer = True
        self._begin_answer(context, context.last_token_at)

    # One turn

    def _turn(self) -> None:
        while self._commands:
            commands, self._commands = self._commands, []
            for command in commands:
                command()
        if self._waiting:
            self._admit()
        self.version += 1
        if not self._active:
            self._is_busy = False
            return
        num_decoding = sum(context.is_decoding for context in self._active.values())
        tokens = self._budget.tokens(num_decoding, has_newcomer=self._has_newcomer)
        self._has_newcomer = False
        if tokens != self._limits.extend_tokens:
            self._limits = replace(self._limits, extend_tokens=tokens)
        active = cast("tuple[SequenceView, ...]", tuple(self._active.values()))
        plan = plan_step(active, available_pages=self.pages.available(), limits=self._limits)
        self._run(plan)

    def _admit(self) -> None:
        begins = tuple(context for context in self._waiting.values() if not context.is_awaited)
        waiting = cast("tuple[SequenceView, ...]", begins)
        for identity in plan_admission(
            waiting, num_active=len(self._active), available_pages=self.pages.available(), limits=self._limits
        ):
            context = self._waiting[identity]
            if is_kin_read(context, self._active.values(), self._page_size):
                continue
            if context.is_brought(self.pages, self._waiting.values(), self._page_size):
                continue
            del self._waiting[identity]
            context.begin(self.pages, self._page_size)
            self._active[identity] = context
            self._note_begin(context)

    def _note_begin(self, context: JobContext) -> None:
        served = context.job.served
        if served.first_token is None:
            served.read_from, served.cached_tokens = self._timeline.now, context.num_cached
        if context.num_preemptions:
            return
        self.tally.requests += 1
        self.tally.prompt_tokens += context.prompt_tokens
        self.tally.uncached_tokens += context.prompt_tokens - context.num_cached

    def _run(self, plan: BatchPlan) -> None:
        """As `Batch.run`: preempt, grow, then one forward over every row that found its pages."""
        active, pages, size = self._active, self.pages, self._page_size
        for identity in plan.preempt:
            context = active.pop(identity)
            context.preempt(pages, size)
            self._waiting[identity] = context
            self.tally.preemptions += 1
        extended = [
            (active[extend.sequence], extend.num_tokens)
            for extend in plan.extend
            if active[extend.sequence].grow_by(pages, extend.num_tokens, size)
        ]
        decoded: list[JobContext] = []
        read = 0
        for identity in plan.decode:
            context = active[identity]
            end = context.num_tokens
            if end <= context.pages_held * size or context.grow(pages, end, size):
                decoded.append(context)
                read += end
        if not extended and not decoded:
            self._is_busy = bool(self._commands or plan.preempt)
            if self._is_busy:
                self._timeline.at(self._timeline.now, self._turn)
            return
        work = step_work(extended, decode_rows=len(decoded), decode_context=read)
        seconds = self._cost.step_seconds(work)
        self._context_tokens = work.decode_context
        self.tally.steps += 1
        self.tally.decoded_tokens += len(decoded)
        self.tally.busy_s += seconds
        num_extended = sum(num_tokens for _, num_tokens in extended)
        self._budget.observe(num_decoding=len(decoded), num_extended=num_extended, seconds=seconds)
        turn_s = self._turn_s * (len(decoded) + len(extended))
        self._timeline.at(self._timeline.now + seconds + turn_s, lambda: self._stepped(extended, decoded, seconds))

    def _stepped(self, extended: list[tuple[JobContext, int]], decoded: list[JobContext], _seconds: float) -> None:
        """The step's time has passed."""
        now, before, num_steady = self._timeline.now, self._stepped_at, 0
        for context in decoded:
            context.num_tokens += 1
            if context.last_token_at == before:
                num_steady += 1
            else:
                self._gaps.add(now - context.last_token_at)
            context.last_token_at = now
            if context.num_tokens - context.prompt_tokens >= context.answer_tokens:
                self._end(context)
        if num_steady:
            self._gaps.add(now - before, num_steady)
        for context, num_tokens in extended:
            context.num_pending -= num_tokens
            self.tally.read_tokens += 0 if context.num_preemptions else num_tokens
            context.note_pending()
            context.name_full(self.pages, self._page_size)
            self._note_extended(context, now)
        self._stepped_at = now
        self._turn()

    def _note_extended(self, context: JobContext, now: float) -> None:
        job = context.job
        is_read = not context.num_pending
        if context.is_export:
            self._told.shipped(job, context.num_computed // self._page_size, is_read)
        if not is_read:
            return
        if context.num_preemptions and context.num_tokens > context.prompt_tokens:
            # Read again after a preemption: the draw that follows is the next token of the answer.
            context.num_tokens += 1
            context.num_pending = 1
            context.is_decoding = True
            self._gaps.add(now - context.last_token_at)
            context.last_token_at = now
            if context.num_tokens - context.prompt_tokens >= context.answer_tokens:
                self._end(context)
            return
        self._told.read(job, context, now)
        if context.is_export:
            del self._active[context.id]
            context.give_back(self.pages)
        else:
            self._begin_answer(context, now)

    def _begin_answer(self, context: JobContext, drawn_at: float) -> None:
        """Index 0 is drawn: the context goes on decoding, or was done with it."""
        context.num_tokens = context.prompt_tokens + 1
        context.num_pending = 1
        context.is_decoding = True
        context.last_token_at = drawn_at
        self._active[context.id] = context
        if context.answer_tokens <= 1:
            self._end(context)

    def _end(self, context: JobContext) -> None:
        job = context.job
        del self._active[context.id]
        context.end(self.pages, self._page_size)
        self._worst_pages -= job.worst_pages
        self._told.written(job)

    # Looking

    def report(self) -> LoadReport:
        """As the worker itself would publish it."""
        reading = [context.num_pending for context in self._active.values() if not context.is_decoding]
        unread = (*reading, *(context.num_unread for context in self._waiting.values()))
        return LoadReport(
            pages=self.pages.counts(),
            waiting_requests=len(self._waiting) + len(self._promised),
            waiting_tokens=sum(unread),
            unread_prompts=len(unread),
            running_sequences=len(self._active),
            cost=self._cost,
            max_sequences=self._max_sequences,
            context_tokens=self._context_tokens if self._active else 0,
        )

    def _has_room(self, job: Job) -> bool:
        """As `DecodeCore._why_no_room`: nobody preempted waits, and worst cases and places suffice."""
        if any(context.num_preemptions for context in self._waiting.values()):
            return False
        total, priority = self.pages.total, job.priority
        most = int(total * OVERCOMMIT) - (reserve_of(priority, int(total * OVERCOMMIT)) if self._worst_pages else 0)
        if self._worst_pages + job.worst_pages > most:
            return False
        places = self._max_sequences - (reserve_of(priority, self._max_sequences) if self._worst_pages else 0)
        return len(self._active) + len(self._waiting) + len(self._promised) + 1 <= places
