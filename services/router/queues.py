"""How deep the queues are, per role and class: told to the metrics and, as a hint, to Redis."""

import asyncio
from collections.abc import Sequence

from common.core.queue import QueueDepth, QueueReport
from common.core.request import Priority
from common.core.worker import Role
from common.directory.queue_board import QueueBoard
from common.observe import catalogue
from common.observe.registry import Metrics
from services.router.admission.admission import Admission
from services.router.admission.ticket import Ticket


class Queues:
    """Reads admission; writes gauges and this router's place on the board. `run` lives in the app's TaskGroup."""

    def __init__(
        self,
        *,
        admission: Admission,
        board: QueueBoard,
        metrics: Metrics,
        local_prompt_tokens: int,
        heartbeat_s: float,
    ) -> None:
        self._admission = admission
        self._board = board
        self._metrics = metrics
        self._local_prompt_tokens = local_prompt_tokens
        self._heartbeat_s = heartbeat_s

    def depths(self) -> tuple[QueueDepth, ...]:
        """Every waiting request needs decode; those with long prompts need prefill as well."""
        waiting = self._admission.waiting()
        long = [ticket for ticket in waiting if ticket.num_tokens > self._local_prompt_tokens]
        return tuple(
            _depth(role, priority, tickets)
            for role, tickets in ((Role.PREFILL, long), (Role.DECODE, waiting))
            for priority in Priority
        )

    def show(self) -> None:
        """Brings the gauges up to date."""
        for depth in self.depths():
            labels = {"target": depth.role, "priority": depth.priority}
            self._metrics.set(catalogue.QUEUE_REQUESTS, depth.requests, **labels)
            self._metrics.set(catalogue.QUEUE_TOKENS, depth.uncached_tokens, **labels)

    async def run(self) -> None:
        """Once per heartbeat until cancelled. Redis being away is its guard's business."""
        while True:
            self.show()
            await self._board.publish(QueueReport(depths=self.depths()))
            await asyncio.sleep(self._heartbeat_s)


def _depth(role: Role, priority: Priority, tickets: Sequence[Ticket]) -> QueueDepth:
    mine = [ticket for ticket in tickets if ticket.priority is priority]
    return QueueDepth(
        role=role,
        priority=priority,
        requests=len(mine),
        uncached_tokens=sum(ticket.num_tokens for ticket in mine),
    )
