"""What one incarnation of one worker owns, rebuilt from its events and snapshots. Pure: no clock, no I/O."""

from collections import deque
from collections.abc import Generator, Sequence

from common.directory.codec import OwnershipEvent, Snapshot
from common.directory.owners import KEY_BYTES, OwnerTable, Slot, joined_keys
from common.rpc.convert.directory import SHORT_HASH_BYTES

MAX_RECENT = 512
"""Chosen: events kept so that a snapshot somewhat older than the stream's end can be brought up to date."""

CHUNK_KEYS = 2048
"""Chosen: pages taken over from a snapshot at a time, half a millisecond."""


class OwnedPrefixes:
    """WHOLE -(gap in the sequence, or the record is ahead)-> BROKEN -(snapshot that reaches the kept events)-> WHOLE

    Broken replicas still answer: a wrong hint costs a recompute, never a wrong page. Writer: the mirror. The pages
    themselves are bits in a table that all workers share; `slot` is this worker's, until `close`.
    """

    def __init__(self, table: OwnerTable) -> None:
        self.is_whole = True
        self.slot = table.open()
        self._table = table
        self._sequence = 0
        self._known_sequence = 0
        self._recent: deque[OwnershipEvent] = deque(maxlen=MAX_RECENT)

    def __len__(self) -> int:
        return self._table.count(self.slot)

    @property
    def sequence(self) -> int:
        """The newest event seen."""
        return self._sequence

    @property
    def behind(self) -> int:
        """Events that the worker has told and this replica has not seen."""
        return max(0, self._known_sequence - self._sequence)

    @property
    def keys(self) -> frozenset[int]:
        """Every page: for tests, as it walks the whole table."""
        return self._table.keys(self.slot)

    def apply(self, event: OwnershipEvent) -> bool:
        """Take one event; False for a repeated one. After a gap the rest is still taken, as a better hint than none."""
        if event.sequence <= self._sequence:
            return False
        if event.sequence != self._sequence + 1:
            self.is_whole = False
        self._recent.append(event)
        self._change(self.slot, event)
        self._sequence = event.sequence
        return True

    def note(self, sequence: int) -> None:
        """The worker says it has told this many events; what the stream did not show is lost."""
        self._known_sequence = max(self._known_sequence, sequence)
        if sequence > self._sequence:
            self.is_whole = False

    def restore(self, snapshot: Snapshot) -> bool:
        """Start over from a snapshot and the events after it. False, and nothing changed, when it is too old."""
        steps = self.restoring(snapshot)
        if steps is None:
            return False
        for _ in steps:
            pass
        return True

    def restoring(self, snapshot: Snapshot) -> Generator[None, None, None] | None:
        """The same in small steps: nobody sees anything of it before the last. No other change may come between."""
        later = [event for event in self._recent if event.sequence > snapshot.sequence]
        expected = range(snapshot.sequence + 1, snapshot.sequence + 1 + len(later))
        end = later[-1].sequence if later else snapshot.sequence
        if [event.sequence for event in later] != list(expected) or end < max(self._sequence, self._known_sequence):
            return None
        return self._restore(snapshot, later, end)

    def close(self) -> None:
        """The worker is gone, and all that it held with it."""
        self._table.close(self.slot)

    def _restore(self, snapshot: Snapshot, later: Sequence[OwnershipEvent], end: int) -> Generator[None, None, None]:
        """Into a slot of its own, which then takes the place of the old one."""
        table = self._table
        keys = joined_keys(snapshot.joined, SHORT_HASH_BYTES)
        fresh = table.open()
        unused = fresh
        try:
            for start in range(0, len(keys), CHUNK_KEYS):
                table.add(fresh, keys[start : start + CHUNK_KEYS])
                yield
            for event in later:
                self._change(fresh, event)
            self.slot, unused = fresh, self.slot
            self._sequence = end
            self.is_whole = True
        finally:
            table.close(unused)

    def _change(self, slot: Slot, event: OwnershipEvent) -> None:
        self._table.drop(slot, joined_keys(event.withdrawn, SHORT_HASH_BYTES))
        self._table.add(slot, joined_keys(event.published, SHORT_HASH_BYTES))


assert SHORT_HASH_BYTES % KEY_BYTES == 0, "a short hash is no whole number of keys"
