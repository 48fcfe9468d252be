"""How deep the queues are, per role and class, and why: told to the metrics and, as a hint, to Redis."""

import asyncio

from common.core.clock import Clock
from common.core.queue import Cause, QueueDepth, QueueReport
from common.core.request import Priority
from common.core.waiting import wait_set
from common.core.worker import Role
from common.directory.queue_board import QueueBoard
from common.observe import catalogue
from common.observe.metric import Metric
from common.observe.registry import Metrics
from services.router.admission.admission import Admission


class Queues:
    """Reads admission; writes gauges and this router's place on the board, and learns from the board which routers
    divide the limits of tenants. `run` lives in the app's TaskGroup."""

    def __init__(
        self,
        *,
        admission: Admission,
        board: QueueBoard,
        metrics: Metrics,
        clock: Clock,
        local_prompt_tokens: int,
        heartbeat_s: float,
    ) -> None:
        self._admission = admission
        self._board = board
        self._metrics = metrics
        self._clock = clock
        self._roster = admission.line.tenants.roster
        self._is_counted = asyncio.Event()
        self._local_prompt_tokens = local_prompt_tokens
        self._heartbeat_s = heartbeat_s

    def report(self) -> QueueReport:
        """Every waiting request needs decode; those with long prompts need prefill as well."""
        now = self._clock.monotonic()
        return QueueReport(
            depths=tuple(self._depth(role, priority, now) for role in Role for priority in Priority),
            decode_admission_s=self._admission.line.landing_s(now),
            parts=self._roster.words(self._admission.line.tenants.held()),
        )

    def show(self, report: QueueReport) -> None:
        """Brings the gauges up to date. What is not known is absent."""
        for depth in report.depths:
            labels = {"target": depth.role, "priority": depth.priority}
            self._metrics.set(catalogue.QUEUE_REQUESTS, depth.requests, **labels)
            self._metrics.set(catalogue.QUEUE_TOKENS, depth.uncached_tokens, **labels)
            self._metrics.set(catalogue.QUEUE_OLDEST_SECONDS, depth.oldest_s or 0.0, **labels)
            self._show_known(catalogue.QUEUE_DRAIN_SECONDS, depth.queue_s, **labels)
        self._show_known(catalogue.DECODE_ADMISSION_SECONDS, report.decode_admission_s)
        line = self._admission.line
        for cause in Cause:
            self._metrics.set(catalogue.QUEUE_BLOCKED, float(line.cause is cause), cause=cause)
        for priority in Priority:
            self._show_known(catalogue.PLACES, line.places.limit(priority), priority=priority)
        self._metrics.set(catalogue.TENANTS, len(line.tenants))
        self._metrics.set(catalogue.ROUTERS, len(self._roster.listed))

    async def run(self) -> None:
        """Once per heartbeat until cancelled. Redis being away is its guard's business."""
        while True:
            report = self.report()
            self.show(report)
            await self._board.publish(report)
            if await self._count_routers():
                await self._board.publish(self.report())  # at once: whoever has come waits for it
            await self._show_memory()
            await asyncio.sleep(self._heartbeat_s)

    async def wait_counted(self, timeout_s: float) -> None:
        """Until every router counts this one, and it has its part of the tenants' limits; not at all where nobody is
        limited. Bounded."""
        if not self._admission.line.limits.tenants.are_any:
            return
        await wait_set(self._is_counted, timeout_s)

    async def _count_routers(self) -> bool:
        """Whether there are others than before. While Redis is away, those that were last seen: limits neither vanish
        nor shrink for it. A board without our own word on it is none: nobody would know of us."""
        views = await self._board.read()
        said = {view.router.router: view.report.parts for view in views or ()}
        if said.pop(self._roster.me, None) is None:
            self._roster.see_nothing()
            return False
        is_changed = self._roster.see(said, self._clock.monotonic())
        if self._roster.has_part:
            self._is_counted.set()
        return is_changed

    async def _show_memory(self) -> None:
        memory = await self._board.memory()
        self._show_known(catalogue.REDIS_MEMORY_BYTES, None if memory is None else memory.used)
        self._show_known(catalogue.REDIS_LIMIT_BYTES, None if memory is None else memory.limit)

    def _depth(self, role: Role, priority: Priority, now: float) -> QueueDepth:
        line = self._admission.line
        waiting = [entry.ticket for entry in line.queue(priority)]
        if role is Role.PREFILL:
            waiting = [ticket for ticket in waiting if ticket.uncached_tokens > self._local_prompt_tokens]
        return QueueDepth(
            role=role,
            priority=priority,
            requests=len(waiting),
            uncached_tokens=sum(ticket.uncached_tokens for ticket in waiting),
            queue_s=line.drain_s(priority, now) if waiting else 0.0,
            oldest_s=max(now - min(ticket.arrived for ticket in waiting), 0.0) if waiting else None,
            cause=line.cause if waiting else None,
        )

    def _show_known(self, metric: Metric, value: float | None, **labels: str) -> None:
        if value is None:
            self._metrics.clear(metric, **labels)
        else:
            self._metrics.set(metric, value, **labels)
