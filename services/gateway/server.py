"""The HTTP listener: uvicorn without its own signals, logs and banners."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.types import ASGIApp

from common.config.sections.gateway import GatewaySection
from common.core.errors import StartupError
from services.gateway.timed_protocol import timed

MAX_HEAD_BYTES = 16 << 10
BACKLOG = 1024


@asynccontextmanager
async def http_server(
    site: ASGIApp, *, host: str, port: int, limits: GatewaySection, drain_s: float
) -> AsyncIterator[str]:
    """Listening inside the block, at the address it gives; at its end running answers get `drain_s` to finish.

    Raises StartupError when the address cannot be had.
    """
    listener = _listen(host, port)
    config = uvicorn.Config(
        site,
        http=timed(limits),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=round(limits.keep_alive_s),
        timeout_graceful_shutdown=max(1, round(drain_s)),
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        backlog=BACKLOG,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    try:
        yield f"{host}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving  # bounded: by the graceful shutdown's own time


class _Server(uvicorn.Server):
    """Signals are the process's business."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)  # whoever is told the address may connect at once
    except OSError as error:
        listener.close()
        raise StartupError(message=f"{host}:{port} cannot be listened on: {error.strerror}") from error
    listener.setblocking(False)
    return listener
