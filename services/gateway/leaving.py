"""The end of a gateway: what runs is finished, what comes is sent elsewhere.

OPEN --asked--> NOTICE: readiness says no, everything is served, balancers forget this gateway
        --> CLOSING: new requests get 503, Retry-After and Connection: close; running answers end
        --idle--> the listener closes
        --grace over, a second signal--> CUT: what is left is told so: 503, or the last event of a stream
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp, Receive, Scope, Send

from common.core.errors import Reason, Unavailable
from common.core.waiting import wait_done
from common.observe.farewell import Farewell
from services.gateway.errors import error_body, error_headers, status_of

RETRY_S = 1.0
"""Chosen: another gateway serves at once; this one's successor after about as long."""


CUT = "baton.cut"
"""Key of an ASGI scope: the Cut."""


class Cut:
    """What is under way, and how each is told that it will not be finished. Writer: the event loop."""

    def __init__(self) -> None:
        self._tellers: set[Callable[[], None]] = set()

    @contextmanager
    def heard(self, tell: Callable[[], None]) -> Iterator[None]:
        """Calls `tell`, at most once, if the end comes inside the block."""
        self._tellers.add(tell)
        try:
            yield
        finally:
            self._tellers.discard(tell)

    def tell(self) -> None:
        while self._tellers:
            self._tellers.pop()()


class Leaving:
    """An ASGI application around the site. Writer: the event loop."""

    def __init__(self, site: ASGIApp) -> None:
        self._site = site
        self._cut = Cut()
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
            await self._site({**scope, CUT: self._cut}, receive, send)
        finally:
            self._num_running -= 1
            if not self._num_running:
                self._is_idle.set()

    async def drain(self, farewell: Farewell, *, notice_s: float, grace_s: float) -> int:
        """Returns how many answers were left. They are told; the listener's end gives them the time to say so."""
        is_insisted = bool(notice_s) and await farewell.wait_insisted(min(notice_s, grace_s))
        self._is_closing = True
        if not is_insisted:
            await wait_done(self._is_idle.wait(), max(0.0, grace_s - notice_s), hurry=farewell.insisted)
        num_left = self._num_running
        self._cut.tell()
        return num_left


def cut_short() -> Unavailable:
    """What an answer ends with that the gateway could not wait for."""
    message = "this gateway left before the answer was over: ask again; with the same seed it is the same answer"
    return Unavailable(message=message, reason=Reason.DRAINING, retry_after_s=RETRY_S)


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
