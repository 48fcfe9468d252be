"""The router's view of its workers. One writer, many readers of snapshots.

    listed in the directory -> subscribed -> heard (eligible when READY) -> silent or broken (suspect) -> subscribed ...
    gone: no longer listed and not connected, or replaced by a new incarnation

The directory says whom to call; the stream says who lives. With Redis away, a worker whose stream is alive is alive.
"""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass

from common.core.clock import Clock
from common.core.errors import BatonError
from common.core.events import EventMessage
from common.core.ids import WorkerRef
from common.core.queue import Cause
from common.core.request import Priority
from common.core.worker import Role
from common.engine.plan import reserve_of
from common.observe.event_loop import writing
from common.observe.lag import LostTime, never_late
from common.observe.logging import get_log
from common.observe.patience import Patience
from common.rpc.errors import REPLACED_FACT
from services.router.attendance import Attendance
from services.router.cancellations import Cancellations
from services.router.inbox import Switchboard
from services.router.majority import majority
from services.router.mirror import Mirror
from services.router.missing import Missing, MissingWorkers
from services.router.obstacle import obstacle
from services.router.ours import Ours
from services.router.standing import Assignment, Standing
from services.router.view import FleetView
from services.router.workers import Workers

SYNC_S = 1.0
"""Chosen: how late a member is dropped whose stream ended after the directory forgot it."""

RECONNECT_S = 0.25
"""Chosen: half a heartbeat; a restarted process is found about as soon as it is ready."""

WARN_EVERY_S = 0.25
"""Chosen: a worker that drains reports with every step; legs look again for room elsewhere a few times a second."""

EVENTS_OF_TURN = 128
"""Derived: five milliseconds of the event loop, at some 40 us a token. More are worked off in several turns."""

_LOG = get_log("router")


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSettings:
    """`suspect_s`: silence on a stream after which its worker does not count; heartbeats come several times in it.
    `can_fetch`: workers fetch cached pages from each other. `model_digest`: of our model; empty: not known."""

    suspect_s: float = 2.0
    can_fetch: bool = True
    reconnect_s: float = RECONNECT_S
    model_digest: bytes = b""


class Fleet:
    """Writer of every Standing: the event loop's thread. `run` lives in the app's TaskGroup."""

    def __init__(
        self,
        *,
        mirror: Mirror,
        workers: Workers,
        switchboard: Switchboard,
        cancellations: Cancellations,
        clock: Clock,
        settings: FleetSettings,
        lost_s: LostTime = never_late,
    ) -> None:
        self._mirror = mirror
        self._workers = workers
        self._switchboard = switchboard
        self._cancellations = cancellations
        self._clock = clock
        self._settings = settings
        self._lost_s = lost_s  # of a process that stood still, and heard nobody meanwhile
        self._standings: dict[WorkerRef, Standing] = {}
        self._attendance = Attendance(clock)
        self._missing = MissingWorkers(clock)
        self._ours = Ours(settings.model_digest, clock)
        self._is_superseded = asyncio.Event()
        self.changed = asyncio.Event()
        """Set whenever a placement may have become possible. Cleared by the dispatcher, which waits for it."""

    def view(self) -> FleetView:
        now = self._clock.monotonic()
        standings = sorted(self._standings.values(), key=lambda standing: (standing.worker.worker, standing.first_seen))
        page_bytes = majority(each.member.page_bytes for each in standings if each.member.page_bytes) or 0
        workers = tuple(standing.view(now) for standing in standings)
        return FleetView(workers=workers, now=now, page_bytes=page_bytes, can_fetch=self._settings.can_fetch)

    def states(self) -> Mapping[WorkerRef, str]:
        """Each worker's state as this router sees it: for operators."""
        return {worker: standing.state.value for worker, standing in self._standings.items()}

    def missing(self) -> tuple[Missing, ...]:
        """Who went without a word, and nobody has come in their place: for operators."""
        return self._missing.list()

    def fingerprint(self) -> bytes | None:
        """Page layout of the fleet, part of every prefix hash; None while nobody is known."""
        return majority(standing.member.layout_fingerprint for standing in self._standings.values())

    def obstacle(self, num_pages: int, num_tokens: int) -> Cause | None:
        """Why these pages cannot be placed now, with `num_tokens` of others on the way to prefill. None: they can."""
        now = self._clock.monotonic()
        return obstacle(
            [each.view(now) for each in self._standings.values() if each.is_eligible], num_pages, num_tokens
        )

    def places_for(self, priority: Priority) -> int | None:
        """Sequences of this class that all usable decode workers take together, by their own word."""
        decodes = [each for each in self._standings.values() if each.role is Role.DECODE and each.is_eligible]
        totals = [each.load.max_sequences for each in decodes]
        if not totals or not all(totals):
            return None
        return sum(total - reserve_of(priority, total) for total in totals)

    def absent_s(self) -> float:
        """For how long no decode worker has been usable."""
        return self._attendance.absent_s

    async def wait_present(self) -> None:
        """Until a decode worker is usable."""
        await self._attendance.wait_present()

    async def wait_superseded(self) -> None:
        """Until a worker says that another incarnation subscribed under this router's name."""
        await self._is_superseded.wait()  # bounded: the caller's task ends with the app

    def max_pages(self) -> int:
        """Pages of the largest known decode worker; 0 while none is known."""
        return max((item.load.pages.total for item in self._standings.values() if item.role is Role.DECODE), default=0)

    def assign(self, worker: WorkerRef, *, tokens: int, pages: int, sequences: int = 1) -> Assignment:
        """Counts work that is about to be placed there on top of what the worker reports. Ended by `release`."""
        standing = self._standings.get(worker)
        if standing is None:
            return Assignment(worker=worker, tokens=tokens, pages=pages, sequences=sequences)
        return standing.assign(tokens, pages, sequences, self._clock.monotonic())

    def land(self, assignment: Assignment) -> None:
        """The worker accepted it: one that refused before is trusted a little more."""
        if (standing := self._standings.get(assignment.worker)) is not None:
            standing.land(assignment)

    def note_read(self, assignment: Assignment) -> None:
        """The worker has read its prompt."""
        if (standing := self._standings.get(assignment.worker)) is not None:
            standing.read(assignment)

    def release(self, assignment: Assignment) -> None:
        if (standing := self._standings.get(assignment.worker)) is not None:
            standing.release(assignment, self._clock.monotonic())
        self.changed.set()

    def note_refusal(self, worker: WorkerRef) -> None:
        """The worker has no room, whatever its last report said. Overload is not ill health.

        It is offered work again when a place was freed there; when nothing is heard, after some patience.
        """
        if (standing := self._standings.get(worker)) is not None:
            standing.window.refused(standing.load, self._clock.monotonic())
            asyncio.get_running_loop().call_later(standing.window.patience_s + 0.001, self.changed.set)

    def note_draining(self, worker: WorkerRef) -> None:
        """The worker refuses new work for good: an incarnation that drains does not come back."""
        if (standing := self._standings.get(worker)) is not None:
            standing.is_draining = True
            self._count_absence()

    async def run(self) -> None:
        """Follows the directory and every member's stream until cancelled."""
        streams: dict[WorkerRef, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                seen = self._mirror.version
                for standing in self._sync():
                    streams[standing.worker] = group.create_task(self._follow(standing))
                for worker in [worker for worker in streams if worker not in self._standings]:
                    streams.pop(worker).cancel()
                    group.create_task(self._workers.forget(worker))
                await self._mirror.wait_change(seen, self._clock.monotonic() + SYNC_S)

    def _sync(self) -> list[Standing]:
        """Takes over the directory's members. Returns the new ones; drops incarnations that are over."""
        now = self._clock.monotonic()
        members = {member.worker: member for member in self._mirror.members() if self._ours.has(member)}
        latest = {worker.worker: worker for worker in members}
        fresh = []
        for worker, member in members.items():
            if (known := self._standings.get(worker)) is not None:
                known.member, known.is_listed = member, True
                continue
            standing = Standing(member=member, first_seen=now, heard_at=now, load=member.load)
            self._standings[worker] = standing
            fresh.append(standing)
            _LOG.info("worker_found", worker=worker.worker, epoch=worker.epoch, role=member.role)
        for worker, standing in list(self._standings.items()):
            standing.is_listed = worker in members
            is_replaced = latest.get(worker.worker, worker) != worker
            if is_replaced:
                self._drop(standing, "replaced")
                self._cancellations.forget(worker)
            elif not (standing.is_listed or standing.is_connected or self._mirror.is_stale):
                self._drop(standing, "left the directory")
                self._missing.lost(standing)
        self._missing.settle(self._standings.values())
        self._count_absence()
        return fresh

    def _drop(self, standing: Standing, reason: str) -> None:
        del self._standings[standing.worker]
        self._switchboard.lose(standing.worker, reason, is_leaving=standing.is_leaving)
        _LOG.info("worker_gone", worker=standing.worker.worker, epoch=standing.worker.epoch)

    async def _follow(self, standing: Standing) -> None:
        """One incarnation's stream, opened again as long as the incarnation may live."""
        while True:
            reason = await self._listen(standing)
            self._lose(standing, reason)
            if not (standing.is_listed or self._mirror.is_stale):
                if self._standings.pop(standing.worker, None) is not None:
                    self._missing.lost(standing)
                return
            await asyncio.sleep(self._settings.reconnect_s)

    async def _listen(self, standing: Standing) -> str:
        """Reads the stream until it breaks or falls silent; answers why. Silence is as good as a break: what the
        process on the other side still does is fenced by attempt, and it cancels our work after the lease."""
        expected, silence = 1, Patience(self._settings.suspect_s, self._lost_s)
        try:
            async with silence, self._workers.subscribe(standing.worker) as messages:
                async for message in messages:
                    if message.sequence != expected:
                        return f"message {message.sequence} came instead of {expected}"
                    expected += 1
                    silence.pause()  # who is being heard is not silent, however long that takes
                    await self._hear(standing, message)
                    silence.renew()
            return "the stream ended"
        except TimeoutError:
            return f"silent for {self._settings.suspect_s} s"
        except BatonError as error:
            if REPLACED_FACT in error.facts:
                self._is_superseded.set()
            return error.reason.value

    async def _hear(self, standing: Standing, message: EventMessage) -> None:
        """Takes a message, and gives way to others when it is long."""
        standing.heard_at = self._clock.monotonic()
        if message.load is not None:
            standing.note_report(message.load, standing.heard_at)
        self._cancellations.send_again(standing.worker)
        if not standing.is_connected:
            standing.is_connected = True
            self._count_absence()
            _LOG.info("worker_heard", worker=standing.worker.worker, epoch=standing.worker.epoch)
        for start in range(0, len(message.events), EVENTS_OF_TURN):
            if start:
                await asyncio.sleep(0)
            events = message.events[start : start + EVENTS_OF_TURN]
            with writing(len(events)):  # each may be a message to a client
                self._switchboard.deliver(standing.worker, events)
        if message.load is not None and message.load.drain_left_s is not None:
            self._warn(standing, message.load.drain_left_s)
        self.changed.set()

    def _warn(self, standing: Standing, left_s: float) -> None:
        """It says itself that it drains: the directory may be away, or late."""
        now = self._clock.monotonic()
        if not standing.is_draining:
            self.note_draining(standing.worker)
        if now - standing.warned_at >= WARN_EVERY_S:
            standing.warned_at = now
            self._switchboard.warn(standing.worker, standing.warning(left_s))

    def warn_again(self, worker: WorkerRef) -> None:
        """Somebody has left it: the next one need not wait for its next report."""
        standing = self._standings.get(worker)
        if standing is not None and (left_s := standing.load.drain_left_s) is not None:
            standing.warned_at = -math.inf
            self._warn(standing, max(0.0, left_s - (self._clock.monotonic() - standing.heard_at)))

    def _lose(self, standing: Standing, reason: str) -> None:
        if standing.is_connected:
            standing.is_connected = False
            self._count_absence()
            if standing.is_leaving:
                _LOG.info("worker_left", worker=standing.worker.worker, reason=reason)
            else:
                _LOG.warning("worker_suspect", worker=standing.worker.worker, reason=reason)
        self._switchboard.lose(standing.worker, reason, is_leaving=standing.is_leaving)

    def _count_absence(self) -> None:
        standings = self._standings.values()
        self._attendance.note(is_present=any(item.role is Role.DECODE and item.is_eligible for item in standings))
