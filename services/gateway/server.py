"""The HTTP listener: uvicorn without logs and banners of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp

from common.config.sections.gateway import GatewaySection
from common.observe.asgi import served
from common.observe.descriptors import num_descriptors
from common.observe.listener import listen
from services.gateway.timed_protocol import MAX_HEAD_BYTES, timed

BACKLOG = 1024
CONNECTIONS_SHARE = 0.75
"""Chosen: of the files that may be open. Where none is left nobody can be accepted, nor an idle connection give way."""


def most_connections(limits: GatewaySection) -> int:
    """What the configuration allows, if the system does."""
    return max(1, min(limits.max_connections, int(num_descriptors() * CONNECTIONS_SHARE)))


@asynccontextmanager
async def http_server(
    site: ASGIApp, *, host: str, port: int, limits: GatewaySection, drain_s: float
) -> AsyncIterator[str]:
    """Listening inside the block, at the address it gives; at its end running answers get `drain_s` to finish.

    Raises StartupError when the address cannot be had.
    """
    listener = listen(host, port, backlog=BACKLOG)
    config = uvicorn.Config(
        site,
        http=timed(limits, max_connections=most_connections(limits)),
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
    async with served(config, listener, name="http") as address:
        yield address
