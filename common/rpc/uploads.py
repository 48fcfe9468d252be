"""Requests that are on their way: how long each may take to arrive, and how many may lie here unfinished."""

import asyncio
from collections.abc import AsyncIterator

from common.core.errors import DeadlineExceeded, InvalidRequest, Refused

MAX_UPLOADS = 128
"""Chosen: each may be up to a MiB. Whole requests take a moment, so only slow callers or a slow network fill this."""

HASTE_S = 1.0
"""Chosen: a crowd that comes at once has arrived by then; nobody is sent away before."""


class Uploads:
    """Writer: the event loop's thread. Each request within `within_s`; where `most` are on their way already, whoever
    has waited longest gives way to the next one, once it had a second."""

    def __init__(self, *, within_s: float, most: int = MAX_UPLOADS) -> None:
        self._within_s = within_s
        self._most = most
        self._began: dict[asyncio.Timeout, float] = {}

    async def first(self, raws: AsyncIterator[bytes], method: str) -> bytes:
        """The one request of a call. Raises DeadlineExceeded, Refused, and InvalidRequest where the caller ends without
        one."""
        patience = asyncio.timeout(self._within_s)
        try:
            async with patience:
                self._enter(patience)
                async for raw in raws:
                    return raw
        except TimeoutError:
            raise self._late(patience, method) from None
        finally:
            self._began.pop(patience, None)
        raise InvalidRequest(message=f"{method}: the call ended without a request")

    def _enter(self, patience: asyncio.Timeout) -> None:
        now = asyncio.get_running_loop().time()
        if len(self._began) >= self._most:
            longest, began = next(iter(self._began.items()))
            if now - began >= HASTE_S:
                del self._began[longest]
                longest.reschedule(now)
        self._began[patience] = now

    def _late(self, patience: asyncio.Timeout, method: str) -> DeadlineExceeded | Refused:
        if patience in self._began:
            return DeadlineExceeded(message=f"{method}: the request did not arrive within {self._within_s:g} s")
        why = f"{method}: {self._most} requests are on their way, and this one had waited longest to arrive"
        return Refused(message=why, quota_subject="uploads", retry_after_s=HASTE_S)
