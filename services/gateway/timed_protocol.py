"""uvicorn's HTTP/1.1 with what it lacks: a head that does not come whole in time ends its connection, connections have
a limit that idle ones cannot use up, and errors of the protocol are told in the shape of all others.
"""

import asyncio
import sys
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from common.config.sections.gateway import GatewaySection
from common.core.errors import BatonError, MalformedMessage, Reason, Refused, Unavailable
from services.gateway.errors import IS_LATE, error_body, error_headers, head_too_large
from services.gateway.framing import Framing

_PHRASES = {
    408: "Request Timeout",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    503: "Service Unavailable",
}

MAX_HEAD_BYTES = 16 << 10
"""Chosen: a token of 8 KiB, and as much again for cookies and what proxies add."""
STALL_S = 30.0
"""Chosen: how long a client may read less than a buffer of 64 KiB, as long as a router bears it."""

LINGER_S = 1.0
LINGER_BYTES = 64 << 20
"""Chosen: what is still read, and dropped, of a client that was told an error before it had said everything. A close
with bytes unread resets the connection, and the client may then never see the answer."""


def timed(limits: GatewaySection, *, max_connections: int) -> type[H11Protocol]:
    """The protocol for one server. uvicorn makes its objects itself, so what they need is in their class."""
    members = {"head_s": limits.head_s, "max_connections": max_connections}
    return type("Timed", (TimedProtocol,), members)


class TimedProtocol(H11Protocol):
    """One connection. The timer runs while a head is awaited or incomplete; idle keep-alive is uvicorn's own matter."""

    head_s = 10.0
    max_connections = 2048
    idle_since = 0.0
    _timer: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None
    _is_over = False
    """The last word was said."""
    _num_dropped = 0
    """Bytes read since."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = Framing(h11.SERVER, self.config.h11_max_incomplete_event_size or MAX_HEAD_BYTES)

    @property
    def is_idle(self) -> bool:
        return not self._is_over and (self.cycle is None or self.cycle.response_complete)

    def pause_writing(self) -> None:
        """The client does not read as fast as it is written to; one that does not read at all is cut off."""
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(STALL_S, self.transport.abort)

    def resume_writing(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        super().resume_writing()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.idle_since = self.loop.time()
        if len(self.connections) > self.max_connections and not self._make_room():
            message = f"all {self.max_connections} connections are busy: try again"
            self._say(503, Unavailable(message=message, reason=Reason.LOAD_SHED, retry_after_s=1.0))
            return
        self._arm()

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            self._num_dropped += len(data)
            if self._num_dropped > LINGER_BYTES:
                self.transport.abort()
            return
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before and not self._is_over:
            self._disarm()
        elif self.is_idle:
            self._arm()

    def on_response_complete(self) -> None:
        self.idle_since = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        if self._stall is not None:
            self._stall.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Called while h11's error is being handled, which knows better than 400 what is wrong."""
        status = getattr(sys.exception(), "error_status_hint", 400)
        if status == 431:
            self._say(status, head_too_large(MAX_HEAD_BYTES))
        else:
            self._say(status, MalformedMessage(message=msg.rstrip(".") + ": not what HTTP/1.1 allows here"))

    def _make_room(self) -> bool:
        """Closes the connection that has been idle for longest. False where all others are busy."""
        idle = [each for each in self.connections if each is not self and isinstance(each, TimedProtocol)]
        idle = [each for each in idle if each.is_idle]
        if not idle:
            return False
        oldest = min(idle, key=lambda each: each.idle_since)
        self.connections.discard(oldest)
        oldest.transport.abort()
        return True

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.head_s, self._too_late)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_late(self) -> None:
        message = f"the request's head did not arrive within {self.head_s:g} s"
        self._say(408, Refused(message=message, reason=Reason.DEADLINE_EXCEEDED, facts=dict(IS_LATE)))

    def _say(self, status: int, error: BatonError) -> None:
        """The last word on this connection."""
        if self.transport.is_closing() or self._is_over:
            return
        body = error_body(error)
        headers = {"content-type": "application/json", "content-length": str(len(body)), **error_headers(error)}
        lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, 'Bad Request')}", "connection: close"]
        lines += [f"{name}: {text}" for name, text in headers.items()]
        self.transport.write("\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + body)
        self._is_over = True
        self._disarm()
        self._timer = self.loop.call_later(LINGER_S, self.transport.abort)
        self.transport.write_eof()
