"""A router without its process: every object built once, started, drained, stopped. The simulation runs it as well."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from common.config.config import Config
from common.config.table import without_login
from common.core.clock import Clock
from common.core.entropy import Entropy, mint_epoch
from common.core.errors import BatonError, InternalError
from common.core.ids import RouterId, RouterRef
from common.directory.guard import Guard
from common.directory.mirror import DirectoryMirror
from common.directory.queue_board import QueueBoard
from common.directory.settings import DirectorySettings
from common.directory.store import Store
from common.observe import catalogue
from common.observe.farewell import Farewell
from common.observe.lag import LostTime, never_late
from common.observe.logging import get_log
from common.observe.registry import Metrics
from common.observe.tracing.tracer import NoTracer, Tracer
from common.rpc.bind import Bind
from common.rpc.client import Connect, Dialer
from common.rpc.deadline import DeadlinePolicy
from common.rpc.options import Surface
from common.rpc.server import MakeServer, RpcServer, serve
from common.text.grammar.inspector import InlineInspector, Inspector
from common.text.tokenizer import Tokenizer
from common.transfer.offload import Offload
from services.router.admission.admission import Admission
from services.router.admission.limits import AdmissionLimits
from services.router.admission.roster import Roster
from services.router.borrowing import Borrowing
from services.router.budget import RetryBudget
from services.router.cancellations import Cancellations
from services.router.chooser import Chooser
from services.router.constraints import Constraints
from services.router.decisions.entry import Header
from services.router.decisions.log import DecisionLog, folder_of
from services.router.dispatch import Dispatcher
from services.router.fleet import Fleet, FleetSettings
from services.router.frontend import Frontend, generation_service
from services.router.hints import PrefixHints
from services.router.inbox import Switchboard
from services.router.intake import Intake
from services.router.journey import JourneySettings
from services.router.language import Language
from services.router.moves import Moves
from services.router.operators import Operators, cluster_service
from services.router.policy.configured import policy_settings, short_prompt_tokens
from services.router.queues import Queues
from services.router.record import RecentRecords
from services.router.request_class import targets_of
from services.router.resumption import Resumption
from services.router.track import Track
from services.router.validate import ModelFacts
from services.router.workers import Workers

LAST_CANCELS_S = 1.0
"""Chosen: twice the deadline of one cancel; after it the workers' leases end what is left."""

SECRET_BITS = 256

_LOG = get_log("router")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """Everything a router reaches for that is not its own: real in production, simulated in virtual time."""

    clock: Clock
    entropy: Entropy
    connect: Connect
    make_server: MakeServer
    store: Store
    offload: Offload
    inspector: Inspector = field(default_factory=InlineInspector)
    tracer: Tracer = field(default_factory=NoTracer)
    lost_s: LostTime = never_late


class RouterNode:
    """Built on the event loop. Writer of everything it makes.

    built -> serving -> notice (health says no, requests are still taken) -> draining (no new request, running ones
    finish) -> what is left is cut: UNAVAILABLE, to be asked again or resumed elsewhere -> stopped
    """

    def __init__(
        self,
        name: str,
        *,
        config: Config,
        model: ModelFacts,
        tokenizer: Tokenizer,
        secret: bytes,
        outside: Outside,
        metrics: Metrics,
    ) -> None:
        self.me = RouterRef(router=RouterId(name), epoch=mint_epoch(outside.entropy))
        self.failure: BatonError | None = None
        """What ended it, if it was not asked to stop."""
        self._config = config
        self._outside = outside
        self._metrics = metrics
        self._dialer = Dialer(outside.connect)
        settings = DirectorySettings.of(config.cluster, config.liveness)
        guard = Guard(outside.store, settings, clock=outside.clock, metrics=metrics, log=_LOG)
        self.mirror = DirectoryMirror(guard, settings, clock=outside.clock, metrics=metrics)
        self._board = QueueBoard(guard, settings, clock=outside.clock, router=self.me)
        workers = Workers(dialer=self._dialer, router=self.me, clock=outside.clock, lost_s=outside.lost_s)
        switchboard = Switchboard()
        self._cancellations = Cancellations(workers)
        self.fleet = Fleet(
            mirror=self.mirror,
            workers=workers,
            switchboard=switchboard,
            cancellations=self._cancellations,
            clock=outside.clock,
            settings=FleetSettings(
                suspect_s=config.liveness.suspect_s,
                can_fetch=config.router.fetch_prefixes,
                model_digest=model.pages_digest,
            ),
            lost_s=outside.lost_s,
        )
        self.admission = Admission(
            limits=AdmissionLimits.of(config),
            fleet=self.fleet,
            clock=outside.clock,
            entropy=outside.entropy,
            roster=Roster(me=self.me.router, keep_s=settings.keep_s, settle_s=2 * settings.heartbeat_s),
        )
        self._decisions = _decision_log(config, self.me.router, outside, metrics)
        track = Track(
            fleet=self.fleet,
            switchboard=switchboard,
            workers=workers,
            cancellations=self._cancellations,
            hints=PrefixHints(mirror=self.mirror, fleet=self.fleet, page_size=config.engine.page_size),
            budget=RetryBudget(clock=outside.clock),
            borrowing=Borrowing(workers, outside.clock, min_patience_s=config.router.fetch_patience_ms / 1000),
            chooser=Chooser(fleet=self.fleet, settings=policy_settings(config), log=self._decisions),
            moves=Moves(outside.clock, self.fleet.warn_again),
            clock=outside.clock,
        )
        self.recent = RecentRecords(config.router.recent_requests)
        self.dispatcher = Dispatcher(
            router=self.me,
            track=track,
            admission=self.admission,
            metrics=metrics,
            entropy=outside.entropy,
            settings=JourneySettings(
                max_attempts=config.router.max_attempts,
                slow_reader_s=config.router.slow_reader_s,
                short_tokens=short_prompt_tokens(config),
                targets=targets_of(config.admission),
            ),
            recent=self.recent,
            max_buffered_tokens=config.router.max_buffered_tokens,
            model=model.name,
            tracer=outside.tracer,
        )
        self.queues = Queues(
            admission=self.admission,
            board=self._board,
            metrics=metrics,
            clock=outside.clock,
            local_prompt_tokens=short_prompt_tokens(config),
            heartbeat_s=config.liveness.heartbeat_s,
        )
        self.resumption = Resumption(
            self.dispatcher,
            window_s=config.router.resume_window_s,
            request_bytes=config.router.resume_buffer_bytes,
            total_bytes=config.router.resume_total_bytes,
        )
        self._frontend = self._front(model, tokenizer, secret)
        self._operators = Operators(
            router=self.me,
            fleet=self.fleet,
            mirror=self.mirror,
            admission=self.admission,
            dispatcher=self.dispatcher,
            recent=self.recent,
            metrics=metrics,
            directory=without_login(config.cluster.redis_url),
        )

    def _front(self, model: ModelFacts, tokenizer: Tokenizer, secret: bytes) -> Frontend:
        """What clients call. Without a secret the scopes of prefix hashes are this router's own."""
        outside, language = self._outside, Language(tokenizer)
        intake = Intake(
            model=model,
            limits=self._config.router,
            language=language,
            secret=secret or outside.entropy.bits(SECRET_BITS).to_bytes(SECRET_BITS // 8, "little"),
            clock=outside.clock,
            entropy=outside.entropy,
            offload=outside.offload,
            constraints=Constraints(outside.inspector, max_bytes=self._config.router.max_constraint_bytes),
        )
        return Frontend(
            intake=intake,
            dispatcher=self.dispatcher,
            resumption=self.resumption,
            language=language,
            clock=outside.clock,
        )

    async def serve(self, bind: Bind, *, farewell: Farewell, on_listening: Callable[[str], None]) -> None:
        """Listens and serves until it is asked to leave, then drains. `on_listening` gets the address, host:port.

        `failure` says what ended it, if it was not asked.
        """
        lives_by = {
            "mirror": self.mirror.run,
            "fleet": self.fleet.run,
            "dispatcher": self.dispatcher.run,
            "cancellations": self._cancellations.run,
            "queues": self.queues.run,
            "decisions": self._decisions.run,
        }
        async with asyncio.TaskGroup() as group:
            servants = [group.create_task(self._guard(work, farewell), name=name) for name, work in lives_by.items()]
            servants.append(group.create_task(self._stop_when_superseded(farewell), name="fence"))
            server = await self._listen(bind)
            welcome = group.create_task(self._welcome(server), name="health")
            on_listening(server.address)
            await farewell.asked.wait()  # bounded: a signal ends the process
            welcome.cancel()
            await server.set_serving(False)
            await self._drain(farewell)
            await self.resumption.close()
            await self._cancellations.wait_idle(LAST_CANCELS_S)
            await server.stop(LAST_CANCELS_S)
            await self._board.leave()
            for servant in servants:
                servant.cancel()
        await self._dialer.close()

    async def _guard(self, work: Callable[[], Awaitable[None]], farewell: Farewell) -> None:
        """Something that this router lives by. A bug in it ends the process, and whoever waits is told so and where to
        ask: torn down, it would tell them that they cancelled."""
        try:
            await work()
        except Exception as error:  # noqa: BLE001  # a loop's edge: told once, then cut and exit
            _LOG.error("router_failed", exc_info=error)
            self.failure = InternalError(message=f"the router failed: {error!r}")
            self.failure.__cause__ = error
            farewell.asked.set()
            farewell.insisted.set()  # a drain that is under way waits for what cannot come

    async def _drain(self, farewell: Farewell) -> None:
        """Everything that was promised, within the grace."""
        self._metrics.set(catalogue.DRAINING, 1)
        liveness = self._config.liveness
        grace_s = liveness.drain_s if self.failure is None else 0.0
        notice_s = min(liveness.drain_notice_s, grace_s)
        if notice_s:
            await farewell.wait_insisted(notice_s)
        await self.dispatcher.drain(grace_s - notice_s, hurry=farewell.insisted)

    async def _stop_when_superseded(self, farewell: Farewell) -> None:
        """Another incarnation holds our name: no worker hears us any more, whatever we still believe."""
        await self.fleet.wait_superseded()
        message = (
            f"{self.me.router} was superseded by another incarnation: if that is no restart, two routers have one "
            f"name, or two clusters one cluster.name ({self._config.cluster.name}) in one Redis"
        )
        self.failure = InternalError(message=message)
        farewell.asked.set()

    async def _welcome(self, server: RpcServer) -> None:
        """Health says SERVING once a request could be served; before that, requests wait for a worker. Where a fleet
        may be at none it says so at once: requests that are held here are what brings the first worker."""
        await self.queues.wait_counted(2 * self._config.liveness.lease_s)
        if not self._config.router.hold_s:
            await self.fleet.wait_present()
        await server.set_serving(True)

    async def _listen(self, bind: Bind) -> RpcServer:
        limits = self._config.router
        return await serve(
            [generation_service(self._frontend), cluster_service(self._operators)],
            bind,
            surface=Surface.CLIENT,
            deadlines=DeadlinePolicy(default_s=limits.default_deadline_s, max_s=limits.max_deadline_s),
            entropy=self._outside.entropy,
            metrics=self._metrics,
            is_serving=False,
            make_server=self._outside.make_server,
        )


def _decision_log(config: Config, name: RouterId, outside: Outside, metrics: Metrics) -> DecisionLog:
    return DecisionLog(
        Header(router=name, settings=policy_settings(config)),
        folder=folder_of(config.router.decision_log),
        max_bytes=config.router.decision_log_bytes,
        offload=outside.offload,
        clock=outside.clock,
        metrics=metrics,
    )
