"""A router's replica of the directory: members and ownership, kept by one reader, served without waiting for Redis."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from common.core.clock import Clock
from common.core.ids import Epoch, PrefixHash, WorkerId
from common.core.worker import Member, Role, WorkerState
from common.directory.codec import MemberRecord, decode_event, decode_member, decode_snapshot
from common.directory.guard import Guard
from common.directory.keys import Keys
from common.directory.owners import OwnerTable, keys_of
from common.directory.pace import Pace
from common.directory.predictions import Predictions
from common.directory.replica import OwnedPrefixes
from common.directory.roll import Roll
from common.directory.settings import DirectorySettings
from common.directory.store import STREAM_START, Entry, EntryId, Store
from common.observe import catalogue
from common.observe.registry import Metrics

MAX_MEMBERS = 4096
ENTRIES_PER_READ = 512
READS_PER_ROUND = 32
SHARDS_PER_ROUND = 4
"""Chosen: memory of workers that are gone comes back within seconds, two milliseconds a round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sight:
    """One look at the membership. `records` has every id that was asked for, None where the lease ran out."""

    records: Mapping[WorkerId, MemberRecord | None]
    newest: EntryId | None


@dataclass(slots=True)
class _Peer:
    """One incarnation of one worker."""

    member: Member
    owned: OwnedPrefixes
    replaced: tuple[Epoch, ...] = ()


class DirectoryMirror:
    """Members and who holds which prefix. Writer: `run`, on the router's event loop; everybody else reads.

    While Redis is away the last replica is served and `is_stale` says so. When it comes back, empty perhaps, members
    have one lease of grace to announce themselves again before they are forgotten.
    """

    def __init__(self, guard: Guard, settings: DirectorySettings, *, clock: Clock, metrics: Metrics) -> None:
        self._guard = guard
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._keys = Keys(settings.cluster)
        self._pace = Pace(settings, clock)
        self._roll = Roll(MAX_MEMBERS)
        self._peers: dict[WorkerId, _Peer] = {}
        self._table = OwnerTable()
        self._predictions = Predictions()
        self._strangers: dict[tuple[WorkerId, Epoch], int] = {}
        self._position = STREAM_START
        self._look_at = clock.monotonic()
        self._grace_until = 0.0
        self._missed_look = True
        self._wants_restore = False
        self._changed = asyncio.Event()
        self.version = 0

    @property
    def is_stale(self) -> bool:
        """True while Redis does not answer: prefer load over ownership."""
        return self._guard.is_stale

    @property
    def staleness_s(self) -> float:
        """Age of the newest answer from Redis."""
        return self._guard.staleness_s

    def show_age(self) -> None:
        """Before a scrape, from whatever thread: the gauges of staleness as of now, not of the last answer."""
        self._guard.show()

    def members(self) -> tuple[Member, ...]:
        return tuple(self._peers[worker].member for worker in sorted(self._peers))

    def held_runs(self, hashes: Sequence[PrefixHash], *, is_told: bool = False) -> dict[WorkerId, int]:
        """Leading pages of a prompt that each worker holds, or will soon hold because a prompt of the same beginning
        was sent there, unless only what `is_told` counts; workers that hold none are left out."""
        self._pace.note_question()
        predicted = () if is_told else self._predictions.tables(self._clock.monotonic())
        runs = self._table.runs(keys_of(hashes), *predicted)
        return {worker: runs[peer.owned.slot] for worker, peer in self._peers.items() if peer.owned.slot in runs}

    def predict(self, worker: WorkerId, hashes: Sequence[PrefixHash]) -> None:
        """A prompt with these pages was just sent to a worker: its siblings should find it before it is read."""
        if (peer := self._peers.get(worker)) is not None:
            self._predictions.add(peer.owned.slot, keys_of(hashes), self._clock.monotonic())

    def owned_pages(self, worker: WorkerId) -> int:
        """Hashes in the replica of one worker."""
        peer = self._peers.get(worker)
        return len(peer.owned) if peer else 0

    async def wait_change(self, seen: int, deadline: float) -> bool:
        """Until `version` differs from `seen`; False when the deadline (monotonic) passed first."""
        try:
            async with asyncio.timeout(max(0.0, deadline - self._clock.monotonic())):
                while self.version == seen:
                    await self._changed.wait()
        except TimeoutError:
            return self.version != seen
        return True

    async def run(self) -> None:
        """Follow the directory until cancelled. The one permitted poll: hardened Redis users may not block."""
        while True:
            await self.round()
            await self._pace.wait_turn()

    async def round(self) -> None:
        """One look: members when it is time, events always, snapshots where something is missing."""
        sight = None
        if self._clock.monotonic() >= self._look_at:
            sight = await self._look()
        is_current = await self._read_events()
        if sight is not None and is_current:
            self._note(sight)
        if sight is not None or self._wants_restore:
            await self._restore()
        await self._sweep()

    async def _look(self) -> _Sight | None:
        """Read membership and take it over."""
        self._look_at = self._clock.monotonic() + self._settings.heartbeat_s
        sight = await self._guard.run(self._see)
        if sight is None:
            self._missed_look = True
            return None
        is_emptied = bool(self._peers) and not sight.records
        if self._missed_look or is_emptied:
            self._grace_until = self._clock.monotonic() + self._settings.lease_s
            if self._peers:
                self._metrics.add(catalogue.DIRECTORY_RESYNCS, cause="emptied" if is_emptied else "returned")
        self._missed_look = False
        self._position = self._position if sight.newest and sight.newest >= self._position else STREAM_START
        self._take_members(sight)
        self._strangers.clear()
        self._show()
        return sight

    async def _see(self, store: Store) -> _Sight:
        names = await store.members(self._keys.workers)
        called = self._roll.call(names, known=self._peers, heard_of=[worker for worker, _epoch in self._strangers])
        ids = [WorkerId(name) for name in called]
        values = await store.read([self._keys.worker(worker) for worker in ids])
        self._roll.was_answered()
        newest = await store.newest(self._keys.events)
        records = {worker: self._decoded(value, worker) for worker, value in zip(ids, values, strict=True)}
        return _Sight(records=records, newest=newest)

    def _decoded(self, value: bytes | None, worker: WorkerId) -> MemberRecord | None:
        if value is None:
            return None
        record = decode_member(value, worker)
        if record is None:
            self._metrics.add(catalogue.DIRECTORY_ERRORS, kind="mismatch")
        return record

    def _take_members(self, sight: _Sight) -> None:
        """A new incarnation drops all that the old one owned, in this very turn of the loop. One that it replaced is a
        ghost out of an older state of Redis: the living will write over it.
        """
        for worker, record in sight.records.items():
            known = self._peers.get(worker)
            if record is None or (known is not None and record.member.worker.epoch in known.replaced):
                continue
            if known is None or known.member.worker.epoch != record.member.worker.epoch:
                self._metrics.add(catalogue.DIRECTORY_RESYNCS, cause="start" if known is None else "new_epoch")
                if known is not None:
                    self._forget(known)
                self._peers[worker] = self._met(record)
                self._tell()
            elif known.member != record.member:
                known.member = record.member
                self._tell()
        if self._clock.monotonic() < self._grace_until:
            return
        for worker in [worker for worker in self._peers if sight.records.get(worker) is None]:
            self._forget(self._peers.pop(worker))
            self._tell()

    def _forget(self, peer: _Peer) -> None:
        """All that it owned, and was to own, counts no more from this moment on."""
        peer.owned.close()
        self._predictions.forget()

    def _met(self, record: MemberRecord) -> _Peer:
        """Somebody new. Events of theirs that went by before are lost to us: the snapshot has them."""
        member = record.member
        peer = _Peer(member, OwnedPrefixes(self._table), record.replaced)
        peer.owned.note(self._strangers.pop((member.worker.worker, member.worker.epoch), 0))
        return peer

    async def _read_events(self) -> bool:
        """Follow the stream to its end. False when Redis did not answer or there is more."""
        for _ in range(READS_PER_ROUND):
            entries = await self._guard.run(
                lambda store: store.entries(self._keys.events, self._position, ENTRIES_PER_READ)
            )
            if entries is None:
                return False
            for entry in entries:
                self._take_event(entry)
            self._note_age(entries)
            if len(entries) < ENTRIES_PER_READ:
                return True
        return False

    def _note_age(self, entries: Sequence[Entry]) -> None:
        """How old the news is: by Redis's clock when it came there, by ours now."""
        for entry in entries[-1:]:
            age_s = self._clock.wall() - entry.id.milliseconds / 1000.0
            self._metrics.observe(catalogue.OWNERSHIP_AGE_SECONDS, max(0.0, age_s))

    def _take_event(self, entry: Entry) -> None:
        self._position = entry.id
        event = decode_event(entry.value)
        if event is None:
            self._metrics.add(catalogue.DIRECTORY_ERRORS, kind="mismatch")
            return
        peer = self._peers.get(event.worker)
        if peer is None or peer.member.worker.epoch != event.epoch:
            if not event.left and len(self._strangers) < MAX_MEMBERS:
                self._strangers[event.worker, event.epoch] = event.sequence
                self._look_at = self._clock.monotonic()  # somebody new, or a dead one's last words
            return
        if event.left:
            self._forget(self._peers.pop(event.worker))
            self._tell()
            return
        was_whole = peer.owned.is_whole
        if peer.owned.apply(event):
            self._tell()
        if was_whole and not peer.owned.is_whole:
            self._wants_restore = True
            self._metrics.add(catalogue.DIRECTORY_RESYNCS, cause="gap")

    def _note(self, sight: _Sight) -> None:
        """The stream was read to its end after the records: whatever they are ahead of it was trimmed or lost."""
        for worker, record in sight.records.items():
            peer = self._peers.get(worker)
            if record is None or peer is None or peer.member.worker.epoch != record.member.worker.epoch:
                continue
            was_whole = peer.owned.is_whole
            peer.owned.note(record.event_sequence)
            if was_whole and not peer.owned.is_whole:
                self._metrics.add(catalogue.DIRECTORY_RESYNCS, cause="trimmed")

    async def _restore(self) -> None:
        """Read the snapshots of replicas that are not whole: at once after a gap, then with every look."""
        self._wants_restore = False
        broken = [peer for peer in self._peers.values() if not peer.owned.is_whole]
        if not broken:
            return
        keys = [self._keys.owned(peer.member.worker.worker) for peer in broken]
        values = await self._guard.run(lambda store: store.read(keys))
        for peer, value in zip(broken, values or (), strict=False):
            snapshot = decode_snapshot(value, peer.member.worker) if value is not None else None
            steps = peer.owned.restoring(snapshot) if snapshot is not None else None
            if steps is None:
                continue
            with closing(steps):
                for _ in steps:
                    await asyncio.sleep(0)
            self._predictions.forget()
            self._tell()

    async def _sweep(self) -> None:
        """Some of the memory of workers that are gone."""
        for _ in range(SHARDS_PER_ROUND):
            if not self._table.sweep():
                return
            await asyncio.sleep(0)

    def _tell(self) -> None:
        """Wake everybody who waits for a change."""
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def _show(self) -> None:
        seen = [(peer.member.role, peer.member.state) for peer in self._peers.values()]
        for role in Role:
            for state in WorkerState:
                self._metrics.set(catalogue.MEMBERS, seen.count((role, state)), target=role, state=state)
        self._metrics.set(catalogue.OWNED_PREFIXES, sum(len(peer.owned) for peer in self._peers.values()))
        self._metrics.set(catalogue.OWNERSHIP_EVENTS_BEHIND, sum(peer.owned.behind for peer in self._peers.values()))
        self._metrics.set(catalogue.PREDICTED_PREFIXES, len(self._predictions))
