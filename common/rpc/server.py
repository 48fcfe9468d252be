"""A listener with everything that every listener has: options, boundary, health v1, reflection, graceful stop."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from common.core.entropy import Entropy, SystemEntropy
from common.core.errors import StartupError
from common.observe.logging import get_log
from common.observe.registry import Metrics
from common.rpc.bind import Bind, server_credentials
from common.rpc.deadline import DeadlinePolicy
from common.rpc.interceptors import Boundary
from common.rpc.options import Pings, Surface, server_options

UPLOAD_S = 10.0
"""Chosen: what the gateway gives a body (`gateway.head_s`). A request of a MiB needs 0.8 Mbit/s."""

LAST_WORDS_S = 1.0
"""Chosen: time for handlers whose grace is over to tell their callers so; grpc's own end carries no reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One gRPC service to serve: its full name, and the generated `add_..._to_server` bound to a servicer."""

    name: str
    add: Callable[[grpc.aio.Server], None]


class MakeServer(Protocol):
    """Makes the bare server. The simulation passes its in-memory one."""

    def __call__(self, surface: Surface, interceptors: Sequence[grpc.aio.ServerInterceptor]) -> grpc.aio.Server: ...


def make_grpc_server(
    surface: Surface,
    interceptors: Sequence[grpc.aio.ServerInterceptor],
    *,
    pings: Pings | None = None,
    max_message_bytes: int | None = None,
) -> grpc.aio.Server:
    """The real thing. The last two, bound with functools.partial, replace the surface's own."""
    options = server_options(surface, pings, max_message_bytes)
    return grpc.aio.server(interceptors=list(interceptors), options=list(options))


class RpcServer:
    """A started server. Made by `serve`; stopped once, by whoever asked for it."""

    def __init__(
        self,
        server: grpc.aio.Server,
        *,
        boundary: Boundary,
        health_servicer: health.aio.HealthServicer,
        names: Sequence[str],
        address: str,
    ) -> None:
        self._names = names
        self._server = server
        self._boundary = boundary
        self._health = health_servicer
        self.address = address
        """host:port with the real port, for peers to dial."""

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    async def stop(self, grace_s: float) -> None:
        """Health says NOT_SERVING, new calls are refused, running ones get `grace_s`, then end as UNAVAILABLE."""
        await self._health.enter_graceful_shutdown()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._server.stop(grace_s + LAST_WORDS_S))
            tasks.create_task(self._boundary.end_calls(grace_s))

    async def set_serving(self, is_serving: bool) -> None:
        """Flips health, of the process and of each of its services."""
        for name in self._names:
            await self._health.set(name, _status(is_serving))


async def serve(
    services: Sequence[Service],
    bind: Bind,
    *,
    surface: Surface,
    deadlines: DeadlinePolicy | None = None,
    with_reflection: bool = True,
    entropy: Entropy | None = None,
    metrics: Metrics | None = None,
    is_serving: bool = True,
    make_server: MakeServer = make_grpc_server,
) -> RpcServer:
    """Starts listening and returns. Raises StartupError when the address cannot be had.

    `is_serving`: what health says until `set_serving`.
    """
    boundary = Boundary(
        deadlines=deadlines or DeadlinePolicy(),
        entropy=entropy or SystemEntropy(),
        log=get_log("rpc"),
        metrics=metrics,
        cluster=bind.tls.cluster if bind.tls else "",
        upload_s=UPLOAD_S if surface is Surface.CLIENT else None,
    )
    server = make_server(surface, (boundary,))
    for service in services:
        service.add(server)
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    names = [service.name for service in services]
    for name in ("", *names):
        await health_servicer.set(name, _status(is_serving))
    if with_reflection:
        reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    try:
        port = _listen(server, bind)
        await server.start()
    except BaseException:
        await server.stop(None)  # what was made must be ended, or grpc complains when it is collected
        raise
    return RpcServer(
        server,
        boundary=boundary,
        health_servicer=health_servicer,
        names=("", *names),
        address=bind.at(port),
    )


def _status(is_serving: bool) -> "health_pb2.HealthCheckResponse.ServingStatus.ValueType":
    kind = health_pb2.HealthCheckResponse
    return kind.SERVING if is_serving else kind.NOT_SERVING


def _listen(server: grpc.aio.Server, bind: Bind) -> int:
    try:
        if bind.tls is None:
            port = server.add_insecure_port(bind.address)
        else:
            port = server.add_secure_port(bind.address, server_credentials(bind.tls))
    except RuntimeError as error:
        raise StartupError(message=f"cannot listen on {bind.address}: is another process using the port?") from error
    if port == 0:
        raise StartupError(message=f"cannot listen on {bind.address}")
    return port
