"""Prefill's part of a worker node, on the event loop: its service, its exports, its cancels."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import assert_never

from common.core.clock import Clock
from common.core.errors import BatonError
from common.core.events import TicketIssued, WorkFailed
from common.core.ids import RequestId, RouterRef
from common.core.request import Work
from common.core.ticket import Ticket
from common.core.worker import Role
from common.kv.storage import PageStorage
from common.rpc.server import Service
from common.worker.kept import KeptPages
from common.worker.landing import Lander
from common.worker.node import WorkerNode
from common.worker.prefix_desk import PrefixClosed
from common.worker.prefix_fetches import PrefixFetches
from common.worker.retention import PagesDropped, PagesKept
from common.worker.rules import Rules
from common.worker.servicer import CancelItem, attempts_over
from protos.baton.v1 import prefill_pb2_grpc
from services.prefill.core import PrefillCore
from services.prefill.messages import ExportDropped, Exporting, PrefillEvent, RunReady
from services.prefill.servicer import PrefillServicer
from services.prefill.shipping import Shipping


class PrefillRole:
    """RoleSide of a prefill worker. `piece_bytes`: see Lander."""

    def __init__(
        self,
        *,
        node: WorkerNode[PrefillEvent],
        core: PrefillCore,
        storage: PageStorage,
        piece_bytes: int,
        rules: Rules,
        outcome_s: float,
        lease_s: float,
        clock: Clock,
    ) -> None:
        self._node = node
        self._core = core
        self._rules = rules
        self._lander = Lander(
            turns=node.turns,
            inbound=node.endpoint.inbound,
            storage=storage,
            offload=node.offload,
            piece_bytes=piece_bytes,
            clock=clock,
        )
        self._fetches = PrefixFetches(
            node.endpoint, core=core, turns=node.turns, lander=self._lander, layout=storage.layout
        )
        core.early.hasten = node.turns.hasten
        core.gatherer.lanes = node.endpoint.lanes
        self._servicer = PrefillServicer(
            presence=node.presence,
            core=core,
            turns=node.turns,
            fetches=self._fetches,
            rules=rules,
            takes_layers=node.endpoint.takes_layers,
            clock=clock,
        )
        self._shipping = Shipping(
            node.endpoint,
            tell=node.tell,
            wake=node.turns.wake,
            give_up=self._give_up,
            guard=node.downfall.guard,
            outcome_s=outcome_s,
            clock=clock,
        )
        self._kept = KeptPages(node.endpoint, core=core, turns=node.turns, offload=node.offload, lease_s=lease_s)

    def services(self) -> Sequence[Service]:
        add = partial(prefill_pb2_grpc.add_PrefillServiceServicer_to_server, self._servicer)
        return [Service(name="baton.v1.PrefillService", add=add)]

    def take(self, event: Exporting) -> None:
        match event:
            case RunReady():
                self._shipping.ready(event)
            case ExportDropped():
                self._shipping.dropped(event)
            case PagesKept():
                self._issue(event)
            case PagesDropped():
                self._kept.dropped(event)
            case PrefixClosed():
                self._fetches.closed(event)
            case _:
                assert_never(event)

    def _issue(self, event: PagesKept) -> None:
        """Whoever placed the work gets the ticket, or hears why there is none."""
        work = event.work
        try:
            ticket = self._kept.ticket(event)
        except BatonError as error:
            failed = WorkFailed(
                request=work.request,
                attempt=work.attempt,
                role=Role.PREFILL,
                reason=error.reason,
                message=error.message,
            )
            self._node.tell(work.router, failed)
        else:
            self._node.tell(work.router, TicketIssued(request=work.request, attempt=work.attempt, ticket=ticket))

    def cancel(self, router: RouterRef, items: tuple[CancelItem, ...]) -> None:
        # Choices are one prompt here: it is read for those that go on.
        self._node.turns.post(partial(self._core.cancel_all, attempts_over(items)))

    def router_lost(self, router: RouterRef) -> None:
        self._node.turns.post(partial(self._core.cancel_router, router))

    async def place(self, work: Work, ticket: Ticket | None) -> None:
        assert ticket is None, f"{work.request} has its pages already"
        rule = await self._rules.prepare(work)
        await self._node.turns.call(lambda: self._core.submit(work, None, rule))

    async def keep_prefix(self, work: Work, lease_s: float) -> Ticket | None:
        return await self._kept.lend(work, lease_s)

    async def cut(self) -> None:
        await self._node.turns.call(self._core.cut, is_new_work=False)

    async def wait_idle(self) -> None:
        await self._shipping.wait_idle()

    async def run(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            guard = self._node.downfall.guard
            landing = group.create_task(guard(self._lander.run()), name="landing")
            group.create_task(guard(self._rules.warm()), name="rules")
            await self._shipping.run(stop)
            landing.cancel()

    def _give_up(self, request: RequestId, attempt: int) -> None:
        self._node.turns.post(partial(self._core.cancel, request, attempt))
