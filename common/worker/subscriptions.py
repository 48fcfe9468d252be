"""The event streams of one worker: one per router incarnation, with a bounded queue and a lease.

   first event --> ABSENT --subscribes--> LIVE --stream ends--> ABSENT
   ABSENT --lease over--> LOST;  any --queue full, or a newer epoch of the router subscribes--> LOST: work is cancelled

While a router's stream lives, its work lives. A router that comes back within the lease finds what was queued
meanwhile; what was on the wire when the stream broke is gone, so routers place that work again.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass

from common.core.errors import Fenced, Reason, Refused
from common.core.events import EventMessage, TokensEmitted, WorkEvent, weight_of
from common.core.ids import RouterRef, WorkerRef
from common.core.worker import LoadReport
from common.rpc.errors import REPLACED_FACT

MAX_MESSAGE_EVENTS = 4096
"""Weight of one message's events. Chosen: far below the message limit, and a slow router catches up in few messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionLimits:
    """Bounds of the streams. Times in seconds."""

    lease_s: float = 3.0
    heartbeat_s: float = 0.5
    """A stream without events carries an empty message this often: silence means trouble."""
    max_events: int = 65_536
    """Waiting events of one router; over it the router is a slow reader. Seconds of a full batch's tokens."""
    max_routers: int = 64
    report_s: float = 0.1
    """Messages that only carry tokens amid answers tell of the load this often: it hardly changed, and building and
    reading a report costs as much as ten tokens. All others carry it always."""


class Subscriptions:
    """All streams of one worker. Writer: the event loop's thread, to which `publish` belongs too.

    `on_router_lost` is called once for a router whose work shall be cancelled; it may not raise.
    """

    def __init__(
        self,
        worker: WorkerRef,
        *,
        load: Callable[[], LoadReport],
        on_router_lost: Callable[[RouterRef], None],
        limits: SubscriptionLimits | None = None,
    ) -> None:
        self._worker = worker
        self._load = load
        self._on_router_lost = on_router_lost
        self._limits = limits or SubscriptionLimits()
        self._links: dict[RouterRef, _Link] = {}
        self._replaced: OrderedDict[RouterRef, None] = OrderedDict()
        self._is_closed = False

    @property
    def num_live(self) -> int:
        """Routers that listen now."""
        return sum(link.stream is not None for link in self._links.values())

    def publish(self, batch: Mapping[RouterRef, Iterable[WorkEvent]]) -> None:
        """What one step meant, by router. Never waits: a router that cannot keep up is lost, the step loop is not."""
        for router, events in batch.items():
            link = self._links.get(router) or self._open(router)
            if link is None:
                continue
            link.put(events)
            if link.weight > self._limits.max_events:
                self._lose(link)
            link.changed.set()

    async def stream(
        self, router: RouterRef, *, load_may_be_absent: bool = False
    ) -> AsyncGenerator[EventMessage, None]:
        """This router's messages for as long as it listens; the first comes at once. `load_may_be_absent`: it lets the
        last report stand; one of an older version would read zeros instead.

        A second stream of the same incarnation ends the first: it raises Fenced, as does an incarnation that was
        replaced. Raises Refused (SLOW_READER) when the router fell too far behind.
        """
        if router in self._replaced:
            raise Fenced(
                message=f"router {router.router} epoch {router.epoch} was replaced by a newer incarnation",
                facts={REPLACED_FACT: router.router},
            )
        self._replace_others(router)
        link = self._links.get(router) or self._open(router)
        if link is None:
            raise Refused(message=f"{self._limits.max_routers} routers listen already", quota_subject="routers")
        stream = object()
        link.attach(stream)
        sequence = 0
        now = asyncio.get_running_loop().time
        report_at = now()
        try:
            while True:
                sequence += 1
                events = link.take(MAX_MESSAGE_EVENTS)
                load = None
                if link.has_turn or now() >= report_at or not load_may_be_absent:
                    load, report_at, link.has_turn = self._load(), now() + self._limits.report_s, False
                yield EventMessage(worker=self._worker, sequence=sequence, events=events, load=load)
                if self._is_closed and not link.queue:
                    return
                await link.wait_events(self._limits.heartbeat_s)
                self._check(link, stream)
        finally:
            self._detach(link, stream)

    def close(self) -> None:
        """No router is lost from here on: the process is about to end, and with it everything. Streams end behind what
        waits in them."""
        self._is_closed = True
        for link in self._links.values():
            link.stop_lease()
            link.changed.set()
        self._links.clear()

    def _open(self, router: RouterRef) -> "_Link | None":
        """A link that is absent under its lease. None when there are too many: then its work is lost."""
        if len(self._links) >= self._limits.max_routers:
            self._on_router_lost(router)
            return None
        link = self._links[router] = _Link(router)
        self._start_lease(link)
        return link

    def _replace_others(self, router: RouterRef) -> None:
        """Who subscribes under a router's name is that router now: other incarnations are gone, or zombies."""
        for link in [link for ref, link in self._links.items() if ref.router == router.router and ref != router]:
            self._replaced[link.router] = None
            self._lose(link)
        while len(self._replaced) > 4 * self._limits.max_routers:
            self._replaced.popitem(last=False)

    def _check(self, link: "_Link", stream: object) -> None:
        if link.is_lost:
            raise Refused(
                message=f"router {link.router.router} fell {self._limits.max_events} events behind, or was replaced",
                reason=Reason.SLOW_READER,
                quota_subject="events",
            )
        if link.stream is not stream:
            raise Fenced(message=f"router {link.router.router} opened another stream")

    def _detach(self, link: "_Link", stream: object) -> None:
        if link.stream is stream:
            link.stream = None
            if not link.is_lost:
                self._start_lease(link)

    def _start_lease(self, link: "_Link") -> None:
        if self._is_closed:
            return
        loop = asyncio.get_running_loop()
        link.lease = loop.call_later(self._limits.lease_s, self._lose, link)

    def _lose(self, link: "_Link") -> None:
        """Ends what this router may expect. Its stream, if any, notices at its next turn."""
        if link.is_lost:
            return
        link.is_lost = True
        link.stop_lease()
        link.queue.clear()
        link.weight = 0
        link.changed.set()
        if self._links.get(link.router) is link:
            del self._links[link.router]
        self._on_router_lost(link.router)


class _Link:
    """One router incarnation: its waiting events, and the stream that carries them, if any."""

    def __init__(self, router: RouterRef) -> None:
        self.router = router
        self.queue: deque[WorkEvent] = deque()
        self.weight = 0
        self.has_turn = False
        """Whether something else than tokens amid answers was put here since the last report of the load."""
        self.changed = asyncio.Event()
        self.stream: object | None = None
        self.lease: asyncio.TimerHandle | None = None
        self.is_lost = False

    def attach(self, stream: object) -> None:
        self.stop_lease()
        self.stream = stream
        self.changed.set()  # wakes an older stream, which finds that it was replaced

    def put(self, events: Iterable[WorkEvent]) -> None:
        """More events. The caller looks at `weight`."""
        for event in events:
            self.queue.append(event)
            if isinstance(event, TokensEmitted) and event.finish is None:  # what is free here is the same after it
                self.weight += 1
            else:
                self.weight += weight_of(event)
                self.has_turn = True

    def take(self, max_weight: int) -> tuple[WorkEvent, ...]:
        """The oldest waiting events, in order: as many as have that weight, and one at least."""
        if self.weight <= max_weight:  # a router that keeps up: nearly every time
            everything = tuple(self.queue)
            self.queue.clear()
            self.weight = 0
            self.changed.clear()
            return everything
        events: list[WorkEvent] = []
        room = max_weight
        while self.queue and (not events or room >= weight_of(self.queue[0])):
            event = self.queue.popleft()
            room -= weight_of(event)
            events.append(event)
        self.weight -= max_weight - room
        if not self.queue:
            self.changed.clear()
        return tuple(events)

    async def wait_events(self, timeout_s: float) -> None:
        """Until something changed, at most `timeout_s`."""
        if self.changed.is_set():
            return
        # A timer of the loop: a timeout's context costs three times as much, and every step comes by here.
        timer = asyncio.get_running_loop().call_later(timeout_s, self.changed.set)
        try:
            await self.changed.wait()  # bounded: by the timer
        finally:
            timer.cancel()

    def stop_lease(self) -> None:
        if self.lease is not None:
            self.lease.cancel()
            self.lease = None
