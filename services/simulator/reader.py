"""A prefill worker that takes every step: the production schedulers decide, the cost model says how long.

Each turn, as in `services/prefill/core.py`: commands -> admit -> plan -> one step -> first tokens, runs that are ready.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from common.core.ids import SequenceId, WorkerRef
from common.core.worker import LoadReport, Role
from common.directory.owners import Slot
from common.engine.kindred import is_kin_read
from services.prefill.scheduler import PrefillLimits, plan_admission, plan_step
from services.simulator.cluster import ClusterShape
from services.simulator.context import step_work
from services.simulator.job import Answer, JobContext, Told
from services.simulator.outcome import MachineTally
from services.simulator.pages import CountedPages
from services.simulator.timeline import Timeline

if TYPE_CHECKING:
    from common.engine.plan import SequenceView

MAX_WAITING = 256
"""As `engine.max_waiting`: more prompts are refused."""


class SteppedReader:
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
    ) -> None:
        self.ref = ref
        self.role = Role.PREFILL
        self.slot = slot
        self.pages = pages
        self.tally = MachineTally(name=ref.worker)
        self.version = 0
        self._page_size = page_size
        self._cost = shape.reading_cost
        self._turn_s = shape.reading_turn_s
        self._timeline = timeline
        self._told = told
        self._limits = PrefillLimits(
            page_size=page_size,
            step_tokens=shape.step_tokens,
            chunk_tokens=shape.chunk_tokens,
            max_prompts=shape.max_sequences,
        )
        self._commands: list[Callable[[], None]] = []
        self._waiting: dict[SequenceId, JobContext] = {}
        self._active: dict[SequenceId, JobContext] = {}
        self._is_busy = False

    def post(self, command: Callable[[], None]) -> None:
        """Run it before the next step."""
        self._commands.append(command)
        if not self._is_busy:
            self._is_busy = True
            self._timeline.at(self._timeline.now, self._turn)

    def submit(self, context: JobContext, answer: Answer) -> None:
        """Queue a prompt."""
        if len(self._waiting) >= MAX_WAITING:
            answer(False)
            return
        context.arrived = context.job.served.queued = self._timeline.now
        context.foresee(self.pages, (*self._active.values(), *self._waiting.values()), self._page_size)
        self._waiting[context.id] = context
        answer(True)

    def _turn(self) -> None:
        while self._commands:
            commands, self._commands = self._commands, []
            for command in commands:
                command()
        if self._waiting:
            self._admit()
        self.version += 1
        self._is_busy = bool(self._active)
        if self._is_busy:
            self._step()

    def _admit(self) -> None:
        size = self._page_size
        owed = sum(-(-context.num_tokens // size) - context.pages_held for context in self._active.values())
        begins = tuple(context for context in self._waiting.values() if not context.is_awaited)
        waiting = cast("tuple[SequenceView, ...]", begins)
        available = self.pages.available() - owed
        for identity in plan_admission(
            waiting, num_active=len(self._active), available_pages=available, limits=self._limits
        ):
            context = self._waiting[identity]
            if is_kin_read(context, self._active.values(), self._page_size):
                continue
            if context.is_brought(self.pages, self._waiting.values(), self._page_size):
                continue
            del self._waiting[identity]
            context.begin(self.pages, size)
            self._active[identity] = context
            job = context.job
            job.served.read_from, job.served.cached_tokens = self._timeline.now, context.num_cached
            self.tally.requests += 1
            self.tally.prompt_tokens += context.prompt_tokens
            self.tally.uncached_tokens += context.num_pending
            self._told.shipped(job, context.pages_held, False)

    def _step(self) -> None:
        active = cast("tuple[SequenceView, ...]", tuple(self._active.values()))
        plan = plan_step(active, limits=self._limits)
        extended = [
            (self._active[extend.sequence], extend.num_tokens)
            for extend in plan.extend
            if self._active[extend.sequence].grow_by(self.pages, extend.num_tokens, self._page_size)
        ]
        assert extended, f"{self.ref.worker}: admitted prompts have their pages"
        seconds = self._cost.step_seconds(step_work(extended))
        self.tally.steps += 1
        self.tally.busy_s += seconds
        self._timeline.at(self._timeline.now + seconds + self._turn_s * len(extended), lambda: self._stepped(extended))

    def _stepped(self, extended: list[tuple[JobContext, int]]) -> None:
        now = self._timeline.now
        for context, num_tokens in extended:
            context.num_pending -= num_tokens
            self.tally.read_tokens += num_tokens
            context.name_full(self.pages, self._page_size)
            is_read = not context.num_pending
            job = context.job
            if is_read:
                self._told.read(job, context, now)
            self._told.shipped(job, context.num_computed // self._page_size, is_read)
            if is_read:
                del self._active[context.id]
                context.give_back(self.pages)
        self._turn()

    def report(self) -> LoadReport:
        """As the worker itself would publish it."""
        unread = [context.num_unread for context in (*self._active.values(), *self._waiting.values())]
        return LoadReport(
            pages=self.pages.counts(),
            waiting_requests=len(self._waiting),
            waiting_tokens=sum(unread),
            unread_prompts=len(unread),
            running_sequences=len(self._active),
            cost=self._cost,
        )
