"""What one incarnation of one worker owns, rebuilt from its events and snapshots. Pure: no clock, no I/O."""

from collections import deque
from collections.abc import Sequence

from common.core.ids import PrefixHash
from common.directory.codec import OwnershipEvent, Snapshot
from common.rpc.convert.directory import SHORT_HASH_BYTES

MAX_RECENT = 512
"""Chosen: events kept so that a snapshot somewhat older than the stream's end can be brought up to date."""


class OwnedPrefixes:
    """WHOLE -(gap in the sequence, or the record is ahead)-> BROKEN -(snapshot that reaches the kept events)-> WHOLE

    Broken replicas still answer: a wrong hint costs a recompute, never a wrong page. Writer: the mirror.
    """

    def __init__(self) -> None:
        self.is_whole = True
        self._owned: set[bytes] = set()
        self._sequence = 0
        self._known_sequence = 0
        self._recent: deque[OwnershipEvent] = deque(maxlen=MAX_RECENT)

    def __len__(self) -> int:
        return len(self._owned)

    @property
    def sequence(self) -> int:
        """The newest event seen."""
        return self._sequence

    @property
    def hashes(self) -> frozenset[bytes]:
        return frozenset(self._owned)

    def held_run(self, hashes: Sequence[PrefixHash]) -> int:
        """How many leading pages of a prompt are held."""
        count = 0
        for full in hashes:
            if full[:SHORT_HASH_BYTES] not in self._owned:
                break
            count += 1
        return count

    def apply(self, event: OwnershipEvent) -> bool:
        """Take one event; False for a repeated one. After a gap the rest is still taken, as a better hint than none."""
        if event.sequence <= self._sequence:
            return False
        if event.sequence != self._sequence + 1:
            self.is_whole = False
        self._recent.append(event)
        self._change(event)
        self._sequence = event.sequence
        return True

    def note(self, sequence: int) -> None:
        """The worker says it has told this many events; what the stream did not show is lost."""
        self._known_sequence = max(self._known_sequence, sequence)
        if sequence > self._sequence:
            self.is_whole = False

    def restore(self, snapshot: Snapshot) -> bool:
        """Start over from a snapshot and the events after it. False, and nothing changed, when it is too old."""
        later = [event for event in self._recent if event.sequence > snapshot.sequence]
        expected = range(snapshot.sequence + 1, snapshot.sequence + 1 + len(later))
        end = later[-1].sequence if later else snapshot.sequence
        if [event.sequence for event in later] != list(expected) or end < max(self._sequence, self._known_sequence):
            return False
        self._owned = set(snapshot.owned)
        for event in later:
            self._change(event)
        self._sequence = end
        self.is_whole = True
        return True

    def _change(self, event: OwnershipEvent) -> None:
        self._owned.difference_update(event.withdrawn)
        self._owned.update(event.published)
