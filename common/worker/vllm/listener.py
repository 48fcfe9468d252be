"""Events of the work that this room placed, by request: one more subscription, within the process."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing, contextmanager

from common.core.errors import BatonError, InternalError
from common.core.events import WorkEvent
from common.core.ids import RequestId, RouterRef
from common.observe.logging import get_log
from common.worker.subscriptions import Subscriptions

MAX_QUEUED = 8192
"""Chosen: events of one request; more than a client of a full context's answer can fall behind."""

AGAIN_S = 0.5
"""Chosen: a heartbeat of the streams. Who is refused is refused at once, and would ask without end and let nobody else
have the event loop."""

_LOG = get_log("vllm")


class Inbox:
    """What happens to one request. None: it was aborted. Writer: the listener; reader: the call."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[WorkEvent | None] = asyncio.Queue(MAX_QUEUED)
        self._is_overrun = False

    def put(self, event: WorkEvent | None) -> None:
        try:
            self._events.put_nowait(event)
        except asyncio.QueueFull:
            self._is_overrun = True

    async def next(self, timeout_s: float) -> WorkEvent | None:
        """Raises TimeoutError, and InternalError when events were lost."""
        if self._is_overrun:
            raise InternalError(message=f"a client fell {MAX_QUEUED} events behind")
        async with asyncio.timeout(timeout_s):
            return await self._events.get()


class Listener:
    """Writer: the event loop."""

    def __init__(self, subscriptions: Subscriptions, me: RouterRef) -> None:
        self.me = me
        self._subscriptions = subscriptions
        self._inboxes: dict[RequestId, Inbox] = {}

    async def run(self) -> None:
        """For as long as the worker serves. Whoever falls behind loses its work, as any router does."""
        while True:
            try:
                async with aclosing(self._subscriptions.stream(self.me, load_may_be_absent=True)) as messages:
                    async for message in messages:
                        for event in message.events:
                            if (inbox := self._inboxes.get(event.request)) is not None:
                                inbox.put(event)
            except BatonError as error:
                _LOG.warning("events_lost", reason=error.reason)
                for inbox in self._inboxes.values():
                    inbox.put(None)
                await asyncio.sleep(AGAIN_S)

    @contextmanager
    def open(self, request: RequestId) -> Iterator[Inbox]:
        inbox = self._inboxes[request] = Inbox()
        try:
            yield inbox
        finally:
            del self._inboxes[request]

    def abort(self, request: RequestId) -> None:
        """The call that waits for this request hears of its end. Idempotent."""
        if (inbox := self._inboxes.get(request)) is not None:
            inbox.put(None)
