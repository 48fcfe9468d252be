"""The HTTPS listener of the metrics API. Only the API server's front proxy is let in.

The API server has authenticated and authorized whoever asks before it calls us; that it is the API server is what its
client certificate says: of the front proxy's authority, with one of the names that authority may give it.
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from common.core.errors import StartupError
from common.observe.asgi import served
from common.observe.listener import listen
from common.observe.logging import get_log

MAX_HEAD_BYTES = 16 << 10
MAX_CONNECTIONS = 64
"""Chosen: an API server keeps one or two; there may be a few API servers."""

GRACE_S = 1
KEEP_ALIVE_S = 120
"""Chosen: answers are at hand at once, and HPAs ask every 15 s over a connection that they keep."""

_LOG = get_log("planner")


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontProxy:
    """Who may call. `authority`: PEM; `names`: common names, empty for any of that authority."""

    authority: str
    names: frozenset[str] = frozenset()


@asynccontextmanager
async def metrics_server(
    site: ASGIApp, *, host: str, port: int, cert_file: str, key_file: str, front: FrontProxy
) -> AsyncIterator[str]:
    """Listening inside the block, at the address it gives. Raises StartupError for what will not do."""
    context = _context(cert_file, key_file, front)
    listener = listen(host, port, backlog=MAX_CONNECTIONS)
    config = uvicorn.Config(
        site,
        http=_known(front.names),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )
    config.load()
    config.ssl = context
    async with served(config, listener, name="metrics api") as address:
        yield address


def _context(cert_file: str, key_file: str, front: FrontProxy) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=front.authority)
        context.load_cert_chain(cert_file, key_file)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise StartupError(message=f"metrics_api: certificate, key or authority cannot be used: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _known(names: frozenset[str]) -> type[H11Protocol]:
    """The protocol for one server. uvicorn makes its objects itself, so what they need is in their class."""
    return type("KnownCallers", (KnownCaller,), {"names": names})


class KnownCaller(H11Protocol):
    """One connection: ended at once when its certificate has another name."""

    names: frozenset[str] = frozenset()

    def connection_made(self, transport: Any) -> None:
        certificate = transport.get_extra_info("peercert") or {}
        shown = {value for entries in certificate.get("subject", ()) for key, value in entries if key == "commonName"}
        if self.names and not self.names & shown:
            _LOG.warning("caller_refused", names=sorted(shown), allowed=sorted(self.names))
            transport.abort()
            return
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if getattr(self, "transport", None) is not None:
            super().connection_lost(exc)
