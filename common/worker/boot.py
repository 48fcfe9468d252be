"""From a command line to a serving worker: the same for both roles."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from common.config.config import Config
from common.config.secret import read_secret
from common.config.sections.cluster import ListenSection
from common.core.address import is_everywhere, join_address, split_host, with_port
from common.core.clock import Clock, SystemClock
from common.core.entropy import Entropy, SystemEntropy, mint_epoch
from common.core.errors import StartupError
from common.core.ids import WorkerId, WorkerRef
from common.core.worker import Role
from common.directory.access import RedisUser
from common.directory.connect import connect
from common.engine.fresh_pages import FreshPages
from common.engine.loop import StepCore
from common.observe import catalogue
from common.observe.announce import Announcement, Phase, announce
from common.observe.farewell import Farewell
from common.observe.garbage import calm_collector
from common.observe.health import Condition, LoopProgress, Readiness
from common.observe.http import HealthServer, standard_pages
from common.observe.listener import listen
from common.observe.logging import LogFormat, configure_logging, get_log
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics
from common.observe.vitals import Vitals
from common.rpc.bind import Bind
from common.rpc.client import grpc_connect
from common.rpc.identity import read_tls
from common.rpc.options import Pings, Surface
from common.rpc.server import make_grpc_server
from common.transfer.offload import ThreadOffload
from common.worker.channels import make_channels
from common.worker.engine import Engine, build_engine
from common.worker.node import WorkerNode
from common.worker.outside import Outside
from common.worker.role_side import RoleSide

Event = TypeVar("Event")

_LOG = get_log("worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly(Generic[Event]):
    """What a service adds: how its core is made, and how its side on the event loop is made around a node."""

    role: Role
    make_core: Callable[[Config, Engine, Clock, Entropy], StepCore[Event]]
    make_side: Callable[[WorkerNode[Event], StepCore[Event], Config, Engine, Clock], RoleSide[Event]]


async def run_worker(config: Config, name: str, assembly: Assembly[Event]) -> None:
    """Until SIGTERM or SIGINT. Raises StartupError when it cannot start, or what ended the step loop."""
    configure_logging(log_format=LogFormat.JSON, process=name, level=config.listen.log_level)
    announce(Announcement(name=name, phase=Phase.LOADING, detail=f"loading {config.model.path}"))
    offload = ThreadOffload()
    outside = _outside(config, offload)

    def report(detail: str) -> None:
        announce(Announcement(name=name, phase=Phase.LOADING, detail=detail))

    async with AsyncExitStack() as stack:
        stack.push_async_callback(offload.end)
        engine = await asyncio.to_thread(build_engine, config, report, assembly.role)
        stack.push_async_callback(engine.rules.end)
        calm_collector()  # torch and the weights have come since the process began: 140,000 objects
        await serve_worker(config, name, assembly, engine=engine, outside=outside, farewell=Farewell().listen())


async def serve_worker(
    config: Config, name: str, assembly: Assembly[Event], *, engine: Engine, outside: Outside, farewell: Farewell
) -> None:
    """Serve with an engine that is ready, until the farewell is asked for."""
    metrics = Metrics(ProcessRole(assembly.role.value))
    if config.listen.vllm_metrics:
        metrics.speak_vllm(_served_name(config))
    vitals = Vitals(metrics, config.cluster, outside.clock)
    readiness = Readiness((Condition.MODEL_LOADED, Condition.TOKEN_GENERATED, Condition.LISTENING))
    readiness.meet(Condition.MODEL_LOADED)
    readiness.meet(Condition.TOKEN_GENERATED)
    outside = replace(outside, make_buffer=engine.make_buffer, page_device=engine.page_device)
    core = assembly.make_core(config, engine, outside.clock, outside.entropy)
    # The address is part of who we are, so the port must be known before we listen.
    port = config.listen.port or free_port(config.listen.host)
    bind = Bind(host=config.listen.host, port=port, tls=read_tls(config.cluster))
    me = WorkerRef(WorkerId(name), mint_epoch(outside.entropy), reachable_address(config.listen, port))
    node: WorkerNode[Event] = WorkerNode(
        me,
        role=assembly.role,
        config=config,
        layout=engine.layout,
        core=core,
        outside=outside,
        metrics=metrics,
        readiness=readiness,
        hurry=farewell.insisted,
    )

    if engine.page_device is None:
        node.turns.use_rest = FreshPages(engine.cache, engine.storage).touch
    _tell_pages(metrics, engine)

    def refresh() -> None:
        vitals.refresh()
        node.refresh_metrics()

    progress = LoopProgress(outside.clock, lambda: node.turns.turns)
    pages = standard_pages(metrics, progress, readiness, refresh=refresh)
    async with HealthServer(pages, host=config.listen.host, port=config.listen.metrics_port) as http:
        is_everywhere_heard = is_everywhere(config.listen.host)
        node.presence.metrics_address = (
            join_address(split_host(me.address), http.port) if is_everywhere_heard else http.address
        )
        side = assembly.make_side(node, core, config, engine, outside.clock)

        def ready() -> None:
            readiness.meet(Condition.LISTENING)
            facts = {"pages": float(engine.storage.num_pages), "page_bytes": float(engine.layout.page_bytes)}
            announce(Announcement(name=name, phase=Phase.READY, address=me.address, metrics=http.address, facts=facts))
            _LOG.info("worker_ready", worker=name, epoch=me.epoch, address=me.address, **facts)

        with vitals:
            await node.serve(side, bind, stop=farewell.asked, on_ready=ready)
    _LOG.info("worker_stopped", worker=name)


def _served_name(config: Config) -> str:
    """As routers call the model."""
    return config.model.name or Path(config.model.path).resolve().name


def _tell_pages(metrics: Metrics, engine: Engine) -> None:
    layout, num_pages = engine.layout, engine.storage.num_pages
    metrics.set(
        catalogue.CACHE_INFO, 1, page_size=str(layout.page_size), num_pages=str(num_pages), dtype=str(layout.dtype)
    )


def free_port(host: str) -> int:
    """A port that was free a moment ago."""
    with listen(host, 0, backlog=1) as probe:
        return int(probe.getsockname()[1])


def reachable_address(section: ListenSection, port: int) -> str:
    """Where peers reach this worker. Raises StartupError when nothing says it."""
    if section.advertise:
        return with_port(section.advertise, port)
    if is_everywhere(section.host):
        raise StartupError(
            message=f"listen.host {section.host} is no address that a peer could dial: name one in listen.advertise"
        )
    return join_address(section.host, port)


def _outside(config: Config, offload: ThreadOffload) -> Outside:
    secret, entropy = read_secret(config.cluster), SystemEntropy()
    pings = Pings.of(config.liveness)
    return Outside(
        clock=SystemClock(),
        entropy=entropy,
        connect=grpc_connect(Surface.INTERNAL, read_tls(config.cluster), pings=pings),
        make_server=partial(make_grpc_server, pings=pings),
        store=connect(config.cluster, config.liveness, user=RedisUser.WORKER, secret=secret),
        channels=make_channels(config, entropy),
        offload=offload,
    )
