"""Decode's part of a worker node, on the event loop: its service, its core's events, its cancels."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import assert_never

from common.core.clock import Clock
from common.core.errors import BatonError
from common.core.events import HandedChoice, HandedOver
from common.core.ids import RouterRef
from common.core.request import Work
from common.core.ticket import Ticket
from common.kv.storage import PageStorage
from common.observe.logging import get_log
from common.rpc.server import Service
from common.worker.kept import KeptPages
from common.worker.landing import Lander
from common.worker.node import WorkerNode
from common.worker.prefix_desk import PrefixClosed
from common.worker.prefix_fetches import PrefixFetches
from common.worker.retention import PagesDropped
from common.worker.rules import Rules
from common.worker.servicer import CancelItem, attempts_over
from protos.baton.v1 import decode_pb2_grpc
from services.decode.arrivals import Arrivals
from services.decode.core import DecodeCore
from services.decode.fetching import Fetching
from services.decode.messages import (
    DecodeEvent,
    Departed,
    DepartedChoice,
    ReservationClosed,
    RoleEvent,
)
from services.decode.servicer import DecodeServicer

_LOG = get_log("decode")


class DecodeRole:
    """RoleSide of a decode worker. `lease_s`: how long the pages of a sequence that is handed over are kept.
    `piece_bytes`: see Lander."""

    def __init__(
        self,
        *,
        node: WorkerNode[DecodeEvent],
        core: DecodeCore,
        storage: PageStorage,
        piece_bytes: int,
        rules: Rules,
        lease_s: float,
        clock: Clock,
    ) -> None:
        self._node = node
        self._core = core
        self._rules = rules
        inbound = node.endpoint.inbound
        self._lander = Lander(
            turns=node.turns,
            inbound=inbound,
            storage=storage,
            offload=node.offload,
            piece_bytes=piece_bytes,
            clock=clock,
        )
        self._arrivals = Arrivals(
            core=core,
            turns=node.turns,
            inbound=inbound,
            lander=self._lander,
            layout=storage.layout,
            tell=node.tell,
        )
        self._fetching = Fetching(node.endpoint, core=core, turns=node.turns, arrivals=self._arrivals)
        self._fetches = PrefixFetches(
            node.endpoint, core=core, turns=node.turns, lander=self._lander, layout=storage.layout
        )
        self._kept = KeptPages(node.endpoint, core=core, turns=node.turns, offload=node.offload, lease_s=lease_s)
        self._servicer = DecodeServicer(
            presence=node.presence,
            core=core,
            turns=node.turns,
            arrivals=self._arrivals,
            fetching=self._fetching,
            fetches=self._fetches,
            rules=rules,
            clock=clock,
        )

    def services(self) -> Sequence[Service]:
        add = partial(decode_pb2_grpc.add_DecodeServiceServicer_to_server, self._servicer)
        return [Service(name="baton.v1.DecodeService", add=add)]

    def take(self, event: RoleEvent) -> None:
        match event:
            case ReservationClosed():
                self._arrivals.closed(event)
            case Departed():
                self._hand_over(event)
            case PagesDropped():
                self._kept.dropped(event)
            case PrefixClosed():
                self._fetches.closed(event)
            case _:
                assert_never(event)

    def _hand_over(self, event: Departed) -> None:
        """One word for all choices, behind their tokens."""
        work = event.work
        choices = tuple(self._handed(each) for each in event.choices)
        self._node.tell(work.router, HandedOver(request=work.request, attempt=work.attempt, choices=choices))

    def _handed(self, departed: DepartedChoice) -> HandedChoice:
        ticket = None
        if departed.kept is not None:
            try:
                ticket = self._kept.ticket(departed.kept)
            except BatonError as error:  # it is computed again instead
                _LOG.warning("hand_over_without_pages", request=departed.kept.name, reason=error.reason)
        return HandedChoice(choice=departed.choice, num_tokens=departed.num_tokens, ticket=ticket)

    def cancel(self, router: RouterRef, items: tuple[CancelItem, ...]) -> None:
        self._node.turns.post(partial(self._cancel, items))

    def _cancel(self, items: tuple[CancelItem, ...]) -> None:
        """On the step loop."""
        for item in items:
            if item.choices:
                self._core.end_choices(item.request, item.attempt, item.choices)
        self._core.cancel_all(attempts_over(items))

    def router_lost(self, router: RouterRef) -> None:
        self._node.turns.post(partial(self._core.cancel_router, router))

    async def place(self, work: Work, ticket: Ticket | None) -> None:
        rule = await self._rules.prepare(work)
        if ticket is None:
            await self._node.turns.call(lambda: self._core.start_local(work, rule))
            return
        promise = await self._node.turns.call(lambda: self._core.reserve(work, rule))
        await self._fetching.begin(work, promise, ticket)

    async def keep_prefix(self, work: Work, lease_s: float) -> Ticket | None:
        return await self._kept.lend(work, lease_s)

    async def cut(self) -> None:
        await self._node.turns.call(self._core.cut, is_new_work=False)

    async def wait_idle(self) -> None:
        return

    async def run(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            guard = self._node.downfall.guard
            landing = group.create_task(guard(self._lander.run()), name="landing")
            group.create_task(guard(self._rules.warm()), name="rules")
            await stop.wait()  # bounded: the node sets it when it leaves
            landing.cancel()
