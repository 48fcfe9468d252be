"""A worker's side of the directory: it announces itself, renews its lease, tells what it owns, and leaves.

Whatever failed is said again as a whole: after any doubt the next write is a snapshot, so nothing queues up while Redis
is away, and ownership is back one heartbeat after it returns.
"""

import asyncio
from collections.abc import Callable, Sequence

from common.core.clock import Clock
from common.core.ids import Epoch, PrefixHash, WorkerId, WorkerRef
from common.core.worker import Member
from common.directory.codec import decode_member
from common.directory.guard import Guard
from common.directory.keys import Keys
from common.directory.neighbour import Neighbour
from common.directory.owned_hashes import OwnedHashes
from common.directory.settings import DirectorySettings
from common.directory.store import Append, Command, Join, Leave, Put, Remove, Renew, Store
from common.kv.ownership import OwnershipChanges
from common.rpc.convert.directory import SHORT_HASH_BYTES, event_to_wire, member_to_wire, snapshot_to_wire

MAX_STREAM_ENTRIES = 10_000
"""Chosen: minutes of events of a busy cluster in a few megabytes; older ones are in the snapshots."""
UNCHANGED_SNAPSHOTS = 5
"""Chosen: periods after which a snapshot is repeated although nothing changed."""
MAX_PENDING_CHANGES = 256
"""Chosen: steps that may pass while one write is under way; beyond it a snapshot is shorter than the events."""
MAX_REPLACED = 8
"""Chosen: incarnations within the life of a lease, in a crash loop. Records of older ones cannot return."""


class Registration:
    """One incarnation of one worker. Writer: the event loop of its process.

    ANNOUNCING -> ANNOUNCED -> LEFT, or -> SUPERSEDED when another incarnation holds the name: this process is the
    zombie and must stop taking work.
    """

    def __init__(
        self,
        guard: Guard,
        settings: DirectorySettings,
        *,
        clock: Clock,
        worker: WorkerRef,
        describe: Callable[[], Member],
    ) -> None:
        self._guard = guard
        self._settings = settings
        self._clock = clock
        self._worker = worker
        self._describe = describe
        self._keys = Keys(settings.cluster)
        self._neighbour = Neighbour(
            guard,
            settings,
            clock=clock,
            me=worker.worker,
            names=self._keys.workers,
            record_of=lambda name: self._keys.worker(WorkerId(name)),
        )
        self._owned = OwnedHashes()
        self._pending: list[OwnershipChanges] = []
        self._sequence = 0
        self._needs_snapshot = True
        self._changed_since_snapshot = False
        self._snapshot_at = clock.monotonic()
        self._told_at = float("-inf")
        self._is_announced = False
        self._replaced: tuple[Epoch, ...] | None = None
        """Whose record we found when we came; None until we looked. Who comes after us is never among them."""
        self._has_left = False
        self._superseded = asyncio.Event()
        self._successor: WorkerRef | None = None
        self._wake = asyncio.Event()

    @property
    def is_superseded(self) -> bool:
        return self._superseded.is_set()

    @property
    def is_stale(self) -> bool:
        """True while Redis does not answer. Work goes on."""
        return self._guard.is_stale

    async def wait_superseded(self) -> WorkerRef:
        """The other incarnation of this worker, when one announced itself; the caller's task bounds the wait."""
        await self._superseded.wait()
        assert self._successor is not None, "superseded by nobody"
        return self._successor

    def publish(self, changes: OwnershipChanges) -> None:
        """Tell routers what was gained and lost. Returns at once; `run` sends it, perhaps with that of later steps:
        mirrors look every `poll_s`, so what a busy batch fills between two looks is one event."""
        if changes.is_empty:
            return
        for short in _shortened(changes.withdrawn):
            self._owned.discard(short)
        for run in changes.published:
            for short in _shortened(run):
                self._owned.add(short)
        self._changed_since_snapshot = True
        if self._needs_snapshot:
            return
        self._pending.append(changes)
        if len(self._pending) > MAX_PENDING_CHANGES:
            self._doubt()
        self._wake.set()

    async def run(self) -> None:
        """Heartbeats and events until this worker has left or was superseded. Never fails because of Redis."""
        while not (self._has_left or self.is_superseded):
            beat_at = self._clock.monotonic() + self._settings.heartbeat_s
            is_there = await self.beat()
            await self.flush()
            if is_there:
                await self._neighbour.tidy()
            while await self._has_news(beat_at):
                await self.flush()

    async def _has_news(self, beat_at: float) -> bool:
        """Wait for something to send, behind what was just sent until a mirror has looked for it. False when the next
        heartbeat is due instead, or this registration is over."""
        if self._has_left or self.is_superseded:
            return False
        try:
            async with asyncio.timeout(beat_at - self._clock.monotonic()):
                await self._wake.wait()
                await asyncio.sleep(self._told_at + self._settings.poll_s - self._clock.monotonic())
        except TimeoutError:
            return False
        self._wake.clear()
        return True

    async def beat(self) -> bool:
        """Renew the lease and every key that expires with it. True when Redis has it."""
        replies = await self._guard.run(self._announce)
        if replies is None:
            return False
        self._is_announced = True
        _record, _index, snapshot_is_there, _events = replies
        if not snapshot_is_there:
            self._doubt()
        return True

    async def flush(self) -> None:
        """Send what is pending, or a snapshot where something may have been lost."""
        if not self._is_announced or self._has_left or self.is_superseded:
            return
        wants_snapshot = self._needs_snapshot or self._is_snapshot_due()
        if not (self._pending or wants_snapshot):
            return
        commands = self._news()
        if wants_snapshot:
            commands.append(self._snapshot())
            self._changed_since_snapshot = False
            self._snapshot_at = self._clock.monotonic()
        self._pending = []
        self._needs_snapshot = False
        self._told_at = self._clock.monotonic()
        if await self._guard.run(lambda store: store.write(commands)) is None:
            self._doubt()

    def _is_snapshot_due(self) -> bool:
        """Every snapshot_s after changes; now and then anyway, as a late write may have put back an older one."""
        age_s = self._clock.monotonic() - self._snapshot_at
        patience = 1 if self._changed_since_snapshot else UNCHANGED_SNAPSHOTS
        return age_s >= patience * self._settings.snapshot_s

    def _news(self) -> list[Command]:
        """The event for what is pending. Its number is consumed even if the write fails: it may have been carried out.

        After doubt one number is left out: the gap sends every mirror to the snapshot, even one that missed nothing.
        """
        if self._needs_snapshot:
            self._sequence += 2
            return [self._event(())]
        if not self._pending:
            return []
        self._sequence += 1
        return [self._event(self._pending)]

    async def leave(self) -> None:
        """Withdraw everything, unless the name belongs to another incarnation by now. Idempotent."""
        self._has_left = True
        self._wake.set()
        await self._guard.run(self._withdraw)

    async def _announce(self, store: Store) -> tuple[bool, ...] | None:
        def decide(before: bytes | None) -> Sequence[Command] | None:
            if self._has_left:
                return None
            if self._replaced is None:
                self._replaced = self._found_before(before)
            if self._is_announced and (other := self._foreign(before)) is not None:
                self._successor = other
                self._superseded.set()
                self._wake.set()
                return None
            record = member_to_wire(self._describe(), event_sequence=self._sequence, replaced=self._replaced)
            return (
                Put(key=self._own_key, value=record.SerializeToString(), ttl_s=self._settings.lease_s),
                Join(key=self._keys.workers, member=self._worker.worker, ttl_s=self._settings.keep_s),
                Renew(key=self._keys.owned(self._worker.worker), ttl_s=self._settings.keep_s),
                Renew(key=self._keys.events, ttl_s=self._settings.keep_s),
            )

        return await store.exchange(self._own_key, decide)

    async def _withdraw(self, store: Store) -> tuple[bool, ...] | None:
        def decide(before: bytes | None) -> Sequence[Command] | None:
            if self._foreign(before) is not None:
                return None
            self._sequence += 1
            farewell = event_to_wire(self._worker, sequence=self._sequence, left=True).SerializeToString()
            return (
                Remove(key=self._own_key),
                Remove(key=self._keys.owned(self._worker.worker)),
                Leave(key=self._keys.workers, members=(self._worker.worker,)),
                self._append(farewell),
            )

        return await store.exchange(self._own_key, decide)

    @property
    def _own_key(self) -> str:
        return self._keys.worker(self._worker.worker)

    def _foreign(self, record: bytes | None) -> WorkerRef | None:
        """Another incarnation that holds our name. A record that cannot be read is nobody's, and one of those whom we
        replaced is a ghost: Redis came back as it was before.
        """
        found = decode_member(record, self._worker.worker) if record is not None else None
        if found is None or found.member.worker.epoch in (self._worker.epoch, *(self._replaced or ())):
            return None
        return found.member.worker

    def _found_before(self, record: bytes | None) -> tuple[Epoch, ...]:
        """Whoever held our name when we came, and those before them."""
        found = decode_member(record, self._worker.worker) if record is not None else None
        return () if found is None else (found.member.worker.epoch, *found.replaced)[:MAX_REPLACED]

    def _doubt(self) -> None:
        """Something may be lost: the next write is the whole."""
        self._needs_snapshot = True
        self._pending = []

    def _event(self, pending: Sequence[OwnershipChanges]) -> Append:
        """One event for several changes: what is owned in the end is published, everything else is withdrawn."""
        runs = [run for changes in pending for run in map(_shortened, changes.published)]
        published = [kept for run in runs if (kept := tuple(short for short in run if short in self._owned))]
        touched = dict.fromkeys(short for changes in pending for short in _shortened(changes.withdrawn))
        touched.update(dict.fromkeys(short for run in runs for short in run))
        withdrawn = [short for short in touched if short not in self._owned]
        event = event_to_wire(self._worker, sequence=self._sequence, published=published, withdrawn=withdrawn)
        return self._append(event.SerializeToString())

    def _append(self, event: bytes) -> Append:
        return Append(key=self._keys.events, value=event, max_entries=MAX_STREAM_ENTRIES, ttl_s=self._settings.keep_s)

    def _snapshot(self) -> Put:
        snapshot = snapshot_to_wire(self._worker, sequence=self._sequence, joined=self._owned.joined())
        return Put(
            key=self._keys.owned(self._worker.worker), value=snapshot.SerializeToString(), ttl_s=self._settings.keep_s
        )


def _shortened(hashes: Sequence[PrefixHash]) -> tuple[bytes, ...]:
    return tuple(full[:SHORT_HASH_BYTES] for full in hashes)
