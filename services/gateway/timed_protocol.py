"""uvicorn's HTTP/1.1 with what it lacks: a head that does not come whole in time ends its connection, and errors of the
protocol are told in the shape of all others.
"""

import asyncio
import sys
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from common.core.errors import BatonError, MalformedMessage, Reason, Refused
from services.gateway.errors import error_body

_PHRASES = {408: "Request Timeout", 413: "Content Too Large", 431: "Request Header Fields Too Large"}


MAX_HEAD_BYTES = 16 << 10
STALL_S = 30.0
"""Chosen: how long a client may read less than a buffer of 64 KiB, as long as a router bears it."""

FREE_CHUNKS = 1024
MIN_CHUNK_BYTES = 256
"""Chosen: of a body's chunks on average, after the first FREE_CHUNKS. Each costs 20 us: 40,000 fit into one read."""


class _CountedChunks(h11.Connection):
    """h11, which has no limit on how many chunks a body comes in."""

    _num_chunks = 0
    _num_bytes = 0

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._num_chunks = self._num_bytes = 0
        elif isinstance(event, h11.Data):
            self._num_chunks += event.chunk_start
            self._num_bytes += len(event.data)
            if self._num_chunks > FREE_CHUNKS + self._num_bytes // MIN_CHUNK_BYTES:
                raise h11.RemoteProtocolError("too many small chunks", error_status_hint=413)
        return event


def timed(head_s: float) -> type[H11Protocol]:
    """The protocol for one server. uvicorn makes its objects itself, so what they need is in their class."""
    return type("TimedHeads", (TimedProtocol,), {"head_s": head_s})


class TimedProtocol(H11Protocol):
    """One connection. The timer runs while a head is awaited or incomplete; idle keep-alive is uvicorn's own matter."""

    head_s = 10.0
    _timer: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = _CountedChunks(h11.SERVER, self.config.h11_max_incomplete_event_size or MAX_HEAD_BYTES)

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
        self._arm()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._disarm()
        elif self.cycle is None or self.cycle.response_complete:
            self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        if self._stall is not None:
            self._stall.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Called while h11's error is being handled, which knows better than 400 what is wrong."""
        status = getattr(sys.exception(), "error_status_hint", 400)
        self._say(status, MalformedMessage(message=msg.rstrip(".") + ": not what HTTP/1.1 allows here"))

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.head_s, self._too_late)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_late(self) -> None:
        message = f"the request's head did not arrive within {self.head_s:g} s"
        self._say(408, Refused(message=message, reason=Reason.DEADLINE_EXCEEDED))

    def _say(self, status: int, error: BatonError) -> None:
        body = error_body(error)
        head = (
            f"HTTP/1.1 {status} {_PHRASES.get(status, 'Bad Request')}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        if not self.transport.is_closing():
            self.transport.write(head.encode("ascii") + body)
            self.transport.close()
