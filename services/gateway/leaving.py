"""The end of a gateway: what runs is finished, what comes is sent elsewhere.

OPEN --asked--> NOTICE: readiness says no, everything is served, balancers forget this gateway
        --> CLOSING: new requests get 503, Retry-After and Connection: close; running answers end
        --idle, grace over, a second signal--> the listener closes
"""

import asyncio

from starlette.types import ASGIApp, Receive, Scope, Send

from common.core.errors import Reason, Unavailable
from common.observe.farewell import Farewell
from services.gateway.errors import error_body, error_headers, status_of

RETRY_S = 1.0
"""Chosen: another gateway serves at once; this one's successor after about as long."""


class Leaving:
    """An ASGI application around the site. Writer: the event loop."""

    def __init__(self, site: ASGIApp) -> None:
        self._site = site
        self._is_closing = False
        self._num_running = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._is_closing:
            await _refuse(send)
            return
        self._num_running += 1
        self._is_idle.clear()
        try:
            await self._site(scope, receive, send)
        finally:
            self._num_running -= 1
            if not self._num_running:
                self._is_idle.set()

    async def drain(self, farewell: Farewell, *, notice_s: float, grace_s: float) -> int:
        """Returns how many answers are left, which the listener's end will cut."""
        if notice_s and await farewell.wait_insisted(min(notice_s, grace_s)):
            return self._num_running
        self._is_closing = True
        idle = asyncio.create_task(self._is_idle.wait())  # bounded: by the grace
        insisted = asyncio.create_task(farewell.insisted.wait())  # bounded: by the grace
        left_s = max(0.0, grace_s - notice_s)
        await asyncio.wait({idle, insisted}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()
        insisted.cancel()
        return self._num_running


async def _refuse(send: Send) -> None:
    error = Unavailable(message="this gateway is leaving: ask again", reason=Reason.DRAINING, retry_after_s=RETRY_S)
    body = error_body(error)
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
        **error_headers(error),
    }
    raw = [(name.encode("latin-1"), text.encode("latin-1")) for name, text in headers.items()]
    await send({"type": "http.response.start", "status": status_of(error), "headers": raw})
    await send({"type": "http.response.body", "body": body, "more_body": False})
