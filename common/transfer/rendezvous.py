"""The small store in which the two ends of a pair find each other. It lives at the receiver, one per pair."""

import asyncio
from typing import Protocol

from common.core.errors import InvalidRequest, Reason, Refused, TransferFailed

MAX_KEYS = 64
MAX_KEY_BYTES = 256
MAX_VALUE_BYTES = 64 << 10
MAX_WAIT_S = 30.0
"""Chosen: above any open timeout; a longer wait is the caller's to repeat."""


LOST = "/lost"
"""Behind a key: set when somebody's wait for it was cut off, as the calls of a process that died are."""


class RendezvousStore(Protocol):
    """Keys are set once or overwritten, never deleted: the store ends with its pair."""

    async def put(self, key: str, value: bytes) -> None: ...

    async def get(self, key: str, *, wait_s: float) -> bytes | None:
        """The value, as soon as there is one; None if there is none after `wait_s`. Raises once the pair is closed."""
        ...


class PairStore:
    """The receiver's own store. Writer: the event loop. Bounded: a peer cannot fill the memory of another."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}
        self._changed = asyncio.Condition()
        self._closed = False
        self._why = ""

    async def put(self, key: str, value: bytes) -> None:
        if len(key.encode()) > MAX_KEY_BYTES or len(value) > MAX_VALUE_BYTES:
            raise InvalidRequest(message=f"rendezvous entry too large: key {len(key)}, value {len(value)} bytes")
        if key not in self._values and len(self._values) >= MAX_KEYS:
            raise Refused(message=f"rendezvous store holds {MAX_KEYS} keys already", reason=Reason.RATE_LIMITED)
        async with self._changed:
            self._check_open()
            self._values[key] = value
            self._changed.notify_all()

    async def get(self, key: str, *, wait_s: float) -> bytes | None:
        try:
            async with asyncio.timeout(min(max(wait_s, 0.0), MAX_WAIT_S)), self._changed:
                await self._changed.wait_for(lambda: self._closed or key in self._values)
        except TimeoutError:
            return self._values.get(key)
        except asyncio.CancelledError:
            await self._lose(key)
            raise
        self._check_open()
        return self._values[key]

    async def close(self, why: str = "the pair is closed") -> None:
        """Wakes every waiter with an error. Idempotent: the first reason stays."""
        async with self._changed:
            self._why = self._why or why
            self._closed = True
            self._values.clear()
            self._changed.notify_all()

    async def _lose(self, key: str) -> None:
        async with self._changed:
            if not self._closed and len(self._values) < MAX_KEYS:
                self._values[key + LOST] = b""
                self._changed.notify_all()

    def _check_open(self) -> None:
        if self._closed:
            raise TransferFailed(message=self._why, reason=Reason.CHANNEL_BROKEN)
