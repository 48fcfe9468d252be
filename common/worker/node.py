"""Everything a worker process is besides its role: step loop, transfers, streams to routers, directory, listener, end.

boot -> serving (announced, READY) -> draining (asked, superseded, or a downfall: drain.py) -> gone
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Generic, TypeVar

from common.config.config import Config
from common.core.errors import InternalError
from common.core.events import WorkEvent
from common.core.ids import RouterRef, WorkerRef
from common.core.worker import LoadReport, Role
from common.directory.guard import Guard
from common.directory.registration import Registration
from common.directory.settings import DirectorySettings
from common.engine.look import Look
from common.engine.loop import StepCore, Turns
from common.engine.telling import Outgoing, Owned, Stepped
from common.kv.layout import PageLayout
from common.kv.staging import StagingPool
from common.observe import catalogue
from common.observe.health import Readiness
from common.observe.logging import get_log
from common.observe.registry import Metrics
from common.rpc.bind import Bind
from common.rpc.client import Dialer
from common.rpc.options import Surface
from common.rpc.server import RpcServer, Service, serve
from common.transfer.endpoint import KvEndpoint
from common.transfer.limits import TransferLimits
from common.transfer.remote import GrpcPeers
from common.transfer.servicer import SERVICE_NAME, KvServicer
from common.worker.bridge import EventBridge
from common.worker.costs import WorkerCosts
from common.worker.docking import build_dock
from common.worker.downfall import Downfall
from common.worker.drain import Drain
from common.worker.gauges import WorkerGauges
from common.worker.outside import Outside
from common.worker.presence import Presence
from common.worker.role_side import RoleSide
from common.worker.servicer import WorkerServicer, worker_service
from common.worker.subscriptions import SubscriptionLimits, Subscriptions
from common.worker.vllm.door import VllmDoor, open_door
from protos.baton.v1 import kv_pb2_grpc

LAST_WORDS_S = 1.0
"""Chosen: many turns of the event loop. What its transfers still do when they are aborted waits for no peer."""

Event = TypeVar("Event")

_LOG = get_log("worker")


class WorkerNode(Generic[Event]):
    """Built on the event loop, before the role. Writer of everything it makes."""

    def __init__(
        self,
        me: WorkerRef,
        *,
        role: Role,
        config: Config,
        layout: PageLayout,
        core: StepCore[Event],
        outside: Outside,
        metrics: Metrics,
        readiness: Readiness | None = None,
        hurry: asyncio.Event | None = None,
    ) -> None:
        """`hurry` cuts a drain short."""
        self.me = me
        self._config = config
        self._outside = outside
        self.offload = outside.offload
        self._metrics = metrics
        self._readiness = readiness
        self._server: RpcServer | None = None
        self._gauges = WorkerGauges(metrics, layout)
        self._costs = WorkerCosts(metrics, outside.clock)
        self._stop = asyncio.Event()
        self.downfall = Downfall(self._end_now)
        bridge = EventBridge[Event](asyncio.get_running_loop(), self._take_or_stop)
        self.turns: Turns[Event] = Turns(core, deliver=bridge.carry)
        self._ending = Drain(
            self.turns,
            look=core.look,
            heartbeat_s=config.liveness.heartbeat_s,
            hurry=hurry or asyncio.Event(),
            clock=outside.clock,
        )
        self._driver = outside.drive(self.turns, self.downfall.note, f"steps {me.worker}")
        self.dialer = Dialer(outside.connect)
        transfer = config.transfer
        self.staging = StagingPool(transfer.staging_count, transfer.staging_bytes, make_buffer=outside.make_buffer)
        self._dock = build_dock(outside.page_device, transfer, outside.make_buffer)
        self.endpoint = KvEndpoint(
            me,
            layout=layout,
            peers=GrpcPeers(self.dialer),
            channels=outside.channels,
            staging=self.staging,
            offload=outside.offload,
            clock=outside.clock,
            entropy=outside.entropy,
            limits=TransferLimits(
                open_timeout_s=transfer.deadline_s,
                channel_retry_s=transfer.channel_retry_s,
                frame_timeout_s=transfer.deadline_s,
                max_links=transfer.max_links,
            ),
            dock=self._dock,
        )
        self.presence = Presence(me, role=role, layout=layout, load=self._beat_load, pool=config.engine.pool)
        liveness = config.liveness
        self.subscriptions = Subscriptions(
            me,
            load=self._load,
            on_router_lost=self._router_lost,
            limits=SubscriptionLimits(lease_s=liveness.lease_s, heartbeat_s=liveness.heartbeat_s),
        )
        settings = DirectorySettings.of(config.cluster, liveness)
        guard = Guard(outside.store, settings, clock=outside.clock, metrics=metrics, log=_LOG)
        self.registration = Registration(
            guard, settings, clock=outside.clock, worker=me, describe=self.presence.describe
        )
        self._role: RoleSide[Event] | None = None
        self._vllm: VllmDoor | None = None

    async def serve(
        self, role: RoleSide[Event], bind: Bind, *, stop: asyncio.Event, on_ready: Callable[[], None]
    ) -> None:
        """Take work until `stop`, then drain and leave. Raises what ended it before, if something did."""
        self._role = role
        self._stop = stop
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.dialer.close)
            self._driver.start()
            stack.callback(self._driver.stop)  # after the transfers: one that is cancelled still waits for a turn
            if self._dock is not None:
                stack.push_async_callback(self._dock.offload.end)
            await stack.enter_async_context(self.endpoint)
            self._server = server = await serve(
                self._services(role),
                bind,
                surface=Surface.INTERNAL,
                metrics=self._metrics,
                make_server=self._outside.make_server,
            )
            self.presence.become_ready()
            await self._live(role, server, on_ready)
        if self.downfall.cause is not None:
            raise self.downfall.cause

    async def _live(self, role: RoleSide[Event], server: RpcServer, on_ready: Callable[[], None]) -> None:
        background = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            guard = self.downfall.guard
            acting = group.create_task(guard(role.run(background)), name="role")
            heart = group.create_task(guard(self.registration.run()), name="registration")
            fence = group.create_task(self._stop_when_superseded(), name="fence")
            listening = None if self._vllm is None else group.create_task(guard(self._vllm.listener.run()), name="vllm")
            on_ready()
            await self._stop.wait()  # bounded: the process serves until it is told to stop
            await self._drain(self._config.liveness.drain_s)
            fence.cancel()
            await self.registration.leave()
            await heart
            background.set()
            await asyncio.wait({acting}, timeout=LAST_WORDS_S)  # exports that are cut are told
            if listening is not None:
                listening.cancel()
            self.subscriptions.close()
            await server.stop(0.5)

    async def _stop_when_superseded(self) -> None:
        """Another incarnation holds our name: we are the zombie, whatever we still believe."""
        other = await self.registration.wait_superseded()
        message = (
            f"{self.me.worker} was superseded by another incarnation, at {other.address}: if that is no restart, two "
            f"processes have one name, or two clusters one cluster.name ({self._config.cluster.name}) in one Redis"
        )
        self.downfall.begin(InternalError(message=message))

    async def _drain(self, grace_s: float) -> int:
        """No new work; what runs may finish or be handed over. Returns the sequences that had to be cut."""
        self._ending.begin(grace_s)
        self.presence.begin_drain()
        if self._readiness is not None:
            self._readiness.drain()
        if self._server is not None:
            await self._server.set_serving(False)
        await self.registration.beat()
        assert self._role is not None, "nobody drains before it serves"
        return await self._ending.run(self._role, is_failing=self.downfall.cause is not None)

    async def drain(self, grace_s: float) -> int:
        """Drain RPC: the same, and then the process ends. A caller that goes away ends the waiting, not the drain."""
        try:
            return await self._drain(grace_s)
        finally:
            self._stop.set()

    def _services(self, role: RoleSide[Event]) -> list[Service]:
        servicer = WorkerServicer(role, self, self.subscriptions, self.presence, clock=self._outside.clock)
        kv = partial(kv_pb2_grpc.add_KvServiceServicer_to_server, KvServicer(self.endpoint))
        services = [*role.services(), worker_service(servicer), Service(name=SERVICE_NAME, add=kv)]
        if self._config.listen.vllm:
            self._vllm = open_door(
                self._config,
                role,
                presence=self.presence,
                subscriptions=self.subscriptions,
                clock=self._outside.clock,
                entropy=self._outside.entropy,
            )
            services.append(Service(name=self._vllm.name, add=self._vllm.add))
        return services

    def tell(self, router: RouterRef, event: WorkEvent) -> None:
        """One event for one router, outside of a step's batch."""
        self.subscriptions.publish({router: (event,)})

    def look(self) -> Look:
        return self.turns.look

    def _load(self) -> LoadReport:
        """As of the core's last turn, with what its steps cost, and how long a drain still lasts."""
        load, left_s = self._costs.priced(self.turns.look.load), self._ending.left_s
        return load if left_s is None else replace(load, drain_left_s=left_s)

    def _beat_load(self) -> LoadReport:
        """The same once per heartbeat, when transfers are learnt from."""
        self._costs.moved(self.endpoint.snapshot().sent)
        return self._load()

    def counters(self) -> Mapping[str, float]:
        """The core's, as of its last turn, and those of the transfers, as of now."""
        return {**self.turns.look.counters, **self.endpoint.snapshot().counters()}

    def refresh_metrics(self) -> None:
        """Before a scrape."""
        self._metrics.set(catalogue.DRAINING, self._ending.left_s is not None)
        self._gauges.show(self.turns.look, self.endpoint.snapshot(), num_subscriptions=self.subscriptions.num_live)
        self._costs.show()

    def _end_now(self) -> None:
        """Of what stops it now: `serve` puts the process's own event in the place of the one that this began with."""
        self._stop.set()

    def _take_or_stop(self, events: tuple[Event, ...]) -> None:
        """An event that cannot be taken is a bug; those behind it would be lost, unnoticed: the process starts anew."""
        try:
            self._take(events)
        except Exception as error:  # noqa: BLE001  # a loop's edge: told once, then drain and exit
            self.downfall.note(error)

    def _take(self, events: tuple[Event, ...]) -> None:
        """Everything one or several turns said: the role hears its part, each router gets one message. What the role
        tells of an event comes behind what the core told before it."""
        assert self._role is not None
        outgoing: defaultdict[RouterRef, list[WorkEvent]] = defaultdict(list)
        for event in events:
            match event:
                case Outgoing():
                    outgoing[event.router].append(event.event)
                case Stepped():
                    self._gauges.stepped(event)
                    self._costs.stepped(event)
                case Owned():
                    self.registration.publish(event.changes)
                case _:
                    self.subscriptions.publish(outgoing)
                    outgoing.clear()
                    self._role.take(event)
        self.subscriptions.publish(outgoing)
        self._ending.told.set()

    def _router_lost(self, router: RouterRef) -> None:
        if self._role is not None:
            self._role.router_lost(router)
