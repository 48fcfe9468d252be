"""Composition root of a planner process: configuration in, decisions out."""

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from common.config.config import Config
from common.config.secret import read_secret
from common.core.clock import SystemClock
from common.core.errors import StartupError
from common.directory.access import RedisUser
from common.directory.connect import connect
from common.directory.guard import Guard
from common.directory.settings import DirectorySettings
from common.directory.sighting import Lookout
from common.observe.announce import Announcement, Phase, announce
from common.observe.farewell import Farewell
from common.observe.health import Condition, LoopProgress, Readiness
from common.observe.http import HealthServer, Page, Show, standard_pages
from common.observe.logging import LogFormat, configure_logging, get_log
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics
from common.observe.rotation import made_folder
from common.observe.vitals import Vitals
from common.rpc.bind import Bind
from common.rpc.deadline import DeadlinePolicy
from common.rpc.identity import read_tls
from common.rpc.options import Surface
from common.rpc.server import serve
from services.planner.actuate import Actuator
from services.planner.journal import Journal
from services.planner.loop import Planner
from services.planner.metrics_api import MetricsApi
from services.planner.metrics_server import FrontProxy, metrics_server
from services.planner.outlook import Outlook
from services.planner.servicer import ENDLESS, ScalerServicer, scaler_service
from services.planner.settings import PlannerSettings
from services.planner.signals import Watch

GRACE_S = 0.5
"""Chosen: streams to KEDA end when they are told to; it asks again elsewhere."""

_LOG = get_log("planner")


@dataclass(frozen=True, slots=True, kw_only=True)
class _House:
    """What the parts of this process share."""

    config: Config
    clock: SystemClock
    metrics: Metrics
    outlook: Outlook


async def run_planner(config: Config, name: str) -> None:
    """Until SIGTERM or SIGINT. Raises StartupError when it cannot start."""
    configure_logging(log_format=LogFormat.JSON, process=name, level=config.listen.log_level)
    announce(Announcement(name=name, phase=Phase.LOADING, detail="looking at the directory"))
    metrics, clock = Metrics(ProcessRole.PLANNER), SystemClock()
    vitals = Vitals(metrics, config.cluster, clock)
    readiness = Readiness((Condition.LISTENING, Condition.DECIDED))
    farewell = Farewell(lambda: _say_goodbye(name, readiness)).listen()
    outlook = Outlook(clock, interval_s=config.planner.interval_s)
    house = _House(config=config, clock=clock, metrics=metrics, outlook=outlook)
    journal = _journal(house, name)
    planner = _planner(house, journal)
    actuator = _actuator(house, name)
    progress = LoopProgress(clock, lambda: planner.turns, stall_s=max(15.0, 10 * config.planner.interval_s))
    pages = {**standard_pages(metrics, progress, readiness, refresh=vitals.refresh), "/decisions": _decisions(outlook)}
    async with AsyncExitStack() as stack:
        health = await stack.enter_async_context(
            HealthServer(pages, host=config.listen.host, port=config.listen.metrics_port)
        )
        stack.enter_context(vitals)
        address = await _open(house, stack)
        readiness.meet(Condition.LISTENING)
        async with asyncio.TaskGroup() as group:
            servants = [
                group.create_task(planner.run(), name="planner"),
                group.create_task(journal.run(), name="journal"),
            ]
            stop = asyncio.Event()
            if actuator is not None:
                group.create_task(actuator.run(stop), name="actuator")
            welcome = group.create_task(_welcome(name, outlook, readiness, address, health.address), name="welcome")
            await farewell.asked.wait()  # bounded: by a signal
            stop.set()  # the actuator ends by itself: each of its calls is bounded
            if actuator is not None:
                actuator.hurry()
            for task in (welcome, *servants):
                task.cancel()
    _LOG.info("planner_stopped", planner=name)


def _journal(house: _House, name: str) -> Journal:
    section = house.config.planner
    return Journal(
        name,
        PlannerSettings.of(house.config),
        folder=made_folder(section.decision_log, knob="planner.decision_log"),
        max_bytes=section.decision_log_bytes,
        clock=house.clock,
        metrics=house.metrics,
    )


def _planner(house: _House, journal: Journal) -> Planner:
    config = house.config
    directory = DirectorySettings.of(config.cluster, config.liveness)
    secret = read_secret(config.cluster)
    store = connect(config.cluster, config.liveness, user=RedisUser.PLANNER, secret=secret)
    guard = Guard(store, directory, clock=house.clock, metrics=house.metrics, log=_LOG)
    return Planner(
        lookout=Lookout(guard, directory),
        watch=Watch(start_s=config.planner.start_s),
        outlook=house.outlook,
        settings=PlannerSettings.of(config),
        journal=journal,
        metrics=house.metrics,
        clock=house.clock,
    )


def _actuator(house: _House, name: str) -> Actuator | None:
    """None where this process writes nothing in Kubernetes. Its client is loaded only where it is used."""
    section = house.config.planner
    sets_scales = section.actuate == "kubernetes"
    if not (sets_scales or section.deletion_costs):
        return None
    from services.planner.actuate_kubernetes import KubernetesScales

    scales = KubernetesScales(
        namespace=section.namespace, release=section.release, clock=house.clock, kubeconfig=section.kubeconfig
    )
    return Actuator(
        scales,
        me=name,
        read=house.outlook.wish,
        sets_scales=sets_scales,
        marks_pods=section.deletion_costs,
        metrics=house.metrics,
        clock=house.clock,
    )


async def _open(house: _House, stack: AsyncExitStack) -> str:
    """The ways to ask that are switched on. Returns the first one's address."""
    config = house.config
    addresses = []
    if config.metrics_api.enabled:
        api = MetricsApi(
            house.outlook,
            namespace=config.planner.namespace,
            release=config.planner.release,
            metrics=house.metrics,
            clock=house.clock,
        )
        listener = metrics_server(
            api.site(),
            host=config.listen.host,
            port=config.metrics_api.port,
            cert_file=config.metrics_api.cert_file,
            key_file=config.metrics_api.key_file,
            front=await _front_proxy(config),
        )
        addresses.append(await stack.enter_async_context(listener))
    if config.planner.keda:
        server = await serve(
            [scaler_service(ScalerServicer(house.outlook, metrics=house.metrics, clock=house.clock))],
            Bind(host=config.listen.host, port=config.listen.port, tls=read_tls(config.cluster)),
            surface=Surface.CLIENT,
            deadlines=DeadlinePolicy(endless=ENDLESS),
            metrics=house.metrics,
        )
        stack.push_async_callback(server.stop, GRACE_S)
        addresses.append(server.address)
    return addresses[0] if addresses else ""


async def _front_proxy(config: Config) -> FrontProxy:
    """Who may ask for metrics."""
    section = config.metrics_api
    if not section.front_ca_file:
        from services.planner.actuate_kubernetes import read_front_proxy

        return await asyncio.to_thread(read_front_proxy, config.planner.kubeconfig)
    names = frozenset(filter(None, (name.strip() for name in section.front_names.split(","))))
    try:
        authority = await asyncio.to_thread(Path(section.front_ca_file).read_text, encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(message=f"metrics_api.front_ca_file cannot be read: {error}") from error
    return FrontProxy(authority=authority, names=names)


def _decisions(outlook: Outlook) -> Show:
    async def show() -> Page:
        return Page(body=json.dumps(list(outlook.decisions)).encode() + b"\n")

    return show


async def _welcome(name: str, outlook: Outlook, readiness: Readiness, address: str, metrics: str) -> None:
    """Ready once there is something to tell."""
    while outlook.state.decode is None:
        await outlook.wait_change(1.0)
    readiness.meet(Condition.DECIDED)
    announce(Announcement(name=name, phase=Phase.READY, address=address, metrics=metrics, detail="deciding"))
    _LOG.info("planner_ready", planner=name, address=address)


def _say_goodbye(name: str, readiness: Readiness) -> None:
    readiness.drain()
    announce(Announcement(name=name, phase=Phase.DRAINING, detail="leaving"))
