"""Composition root of a gateway process: configuration in, a serving process out."""

import asyncio
from pathlib import Path

from common.config.config import Config
from common.core.clock import SystemClock
from common.core.entropy import SystemEntropy
from common.core.errors import BatonError
from common.core.version import VERSION
from common.observe import catalogue
from common.observe.announce import Announcement, Phase, announce
from common.observe.farewell import Farewell
from common.observe.health import Condition, Readiness
from common.observe.http import HealthServer, standard_pages
from common.observe.logging import LogFormat, configure_logging, get_log
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics
from common.observe.throttle import ThrottledLog
from common.observe.tracing.tracer import make_tracer
from common.observe.vitals import Vitals
from common.rpc.client import grpc_connect
from common.rpc.identity import read_tls
from common.rpc.options import Surface
from services.gateway.api import Api
from services.gateway.credentials import Credentials, OpenDoor
from services.gateway.leaving import Leaving
from services.gateway.places import Places
from services.gateway.routers import Routers
from services.gateway.server import http_server
from services.gateway.site import make_site
from services.gateway.tracing import Tracing

SEEK_S = 0.2
"""Chosen: how often a gateway that has found no router looks again; a router takes a second to start."""

LAST_WORDS_S = 1.0
"""Chosen: what is left after the drain's own grace is cut; only what is written already goes out."""

_LOG = get_log("gateway")


async def run_gateway(config: Config, name: str) -> None:
    """Until SIGTERM or SIGINT. Raises StartupError when it cannot start."""
    configure_logging(log_format=LogFormat.JSON, process=name, level=config.listen.log_level)
    announce(Announcement(name=name, phase=Phase.LOADING, detail=f"looking for a router at {config.gateway.routers}"))
    metrics, clock, entropy = Metrics(ProcessRole.GATEWAY), SystemClock(), SystemEntropy()
    vitals = Vitals(metrics, config.cluster, clock)
    readiness = Readiness((Condition.LISTENING, Condition.WORKERS_SEEN))
    farewell = Farewell(lambda: _say_goodbye(name, readiness)).listen()
    routers = Routers(config.gateway.routers, grpc_connect(Surface.CLIENT, read_tls(config.cluster), is_spread=True))
    api = Api(
        routers,
        places=Places(config.gateway.max_calls, per_exchange=config.gateway.max_calls_per_request),
        clock=clock,
        entropy=entropy,
        metrics=metrics,
        version=VERSION,
        is_strict=config.gateway.strict,
    )
    credentials = config.gateway.credentials_file
    door = Credentials.load(Path(credentials)) if credentials else OpenDoor()
    tracer = make_tracer(config.tracing, role="gateway", cluster=config.cluster.name, clock=clock, entropy=entropy)
    tracing = Tracing(where=name, tracer=tracer)
    site = make_site(
        api, door=door, limits=config.gateway, metrics=metrics, clock=clock, entropy=entropy, tracing=tracing
    )
    leaving = Leaving(site)
    pages = standard_pages(metrics, None, readiness, refresh=vitals.refresh)
    async with HealthServer(pages, host=config.listen.host, port=config.listen.metrics_port) as health:
        with vitals:
            async with http_server(
                leaving,
                host=config.listen.host,
                port=config.listen.port,
                limits=config.gateway,
                drain_s=LAST_WORDS_S,
            ) as address:
                readiness.meet(Condition.LISTENING)
                async with asyncio.TaskGroup() as group:
                    welcoming = _welcome(name, api, readiness, ThrottledLog(_LOG, clock), address, health.address)
                    welcome = group.create_task(welcoming, name="welcome")
                    await farewell.asked.wait()  # bounded: by a signal
                    welcome.cancel()
                metrics.set(catalogue.DRAINING, 1)
                liveness = config.liveness
                if left := await leaving.drain(farewell, notice_s=liveness.drain_notice_s, grace_s=liveness.drain_s):
                    metrics.add(catalogue.DRAIN_CUTS, left)
                    _LOG.warning("drain_cut_short", requests=left)
    await routers.close()
    await asyncio.to_thread(tracer.close)
    _LOG.info("gateway_stopped", gateway=name)


async def seek_router(api: Api, readiness: Readiness, log: ThrottledLog) -> None:
    """Until a router has told which model is served. Whatever stops it from that, frozen, failing or behind a wrong
    certificate, may be over by the next time."""
    while True:
        try:
            await api.model()
        except BatonError as error:
            log.warning("no_router_yet", reason=error.reason, error=error.message)
            await asyncio.sleep(SEEK_S)
        else:
            readiness.meet(Condition.WORKERS_SEEN)
            return


async def _welcome(name: str, api: Api, readiness: Readiness, log: ThrottledLog, address: str, metrics: str) -> None:
    """Ready with the first router, and never by what kept it from asking: a bug there ends the process."""
    await seek_router(api, readiness, log)
    announce(Announcement(name=name, phase=Phase.READY, address=address, metrics=metrics, detail="serving"))
    _LOG.info("gateway_ready", gateway=name, address=address)


def _say_goodbye(name: str, readiness: Readiness) -> None:
    readiness.drain()
    announce(Announcement(name=name, phase=Phase.DRAINING, detail="finishing what runs"))
