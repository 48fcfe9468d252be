"""The bridge from the step loop's thread to the event loop: events in batches, one wake-up per batch.

step loop thread                         event loop
carry(events) --> [ bounded, ordered ] --> take(everything that waits)
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from common.core.errors import InternalError

Event = TypeVar("Event")

MAX_WAITING = 262_144
"""Events. Chosen: minutes of a full batch's tokens. An event loop that is so far behind will not catch up."""


class EventBridge(Generic[Event]):
    """Order is kept, nothing is dropped. Writer: the step loop's thread; `take` runs on the event loop.

    With more than `max_waiting` events unread, `carry` raises InternalError: the event loop hangs, and only a restart
    of the process helps.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        take: Callable[[tuple[Event, ...]], None],
        *,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._loop = loop
        self._take = take
        self._max_waiting = max_waiting
        self._waiting: deque[Event] = deque()
        self._lock = threading.Lock()

    def carry(self, events: tuple[Event, ...]) -> None:
        """Hands `events` over. Returns at once; never waits for the other side."""
        if not events:
            return
        with self._lock:
            if len(self._waiting) + len(events) > self._max_waiting:
                raise InternalError(message=f"the event loop has left {len(self._waiting)} events unread")
            is_first = not self._waiting
            self._waiting.extend(events)
        if is_first and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        with self._lock:
            events = tuple(self._waiting)
            self._waiting.clear()
        self._take(events)
