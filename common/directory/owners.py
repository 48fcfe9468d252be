"""Who holds which page: one table for all workers, one bit of an integer per worker. Pure: no clock, no I/O.

A page is known by 64 bits of its prefix hash. That is a hint's worth: two of 25 million pages collide once in some ten
thousand clusters, and a hit that is none costs a recompute. The table is cut into shards so that no single operation,
growing a dictionary included, holds up the event loop for a millisecond.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import NewType

from common.core.ids import PrefixHash

Slot = NewType("Slot", int)
"""A worker's bit. Slots of workers that are gone are used again once their bits are swept."""

NUM_SHARDS = 256
"""Chosen: 1.6 million pages are 6,000 a shard, which is swept or grown in half a millisecond."""

STRIDE = 32
"""Chosen: a prompt of 100,000 tokens costs some 200 look-ups in cold memory, a fifth of a millisecond."""

_SHARD_MASK = NUM_SHARDS - 1
KEY_BYTES = 8


def keys_of(hashes: Sequence[bytes] | Sequence[PrefixHash]) -> "array[int]":
    """The leading 64 bits of every hash, all of one length, in order."""
    return joined_keys(b"".join(hashes), len(hashes[0])) if hashes else array("Q")


def joined_keys(joined: bytes, hash_bytes: int) -> "array[int]":
    """The same for hashes of `hash_bytes` each that lie one after the other."""
    return array("Q", joined)[:: hash_bytes // KEY_BYTES]


class OwnerTable:
    """Writer: the mirror. A slot is open, or closed and waiting to be swept, or unused."""

    def __init__(self, *, stride: int = STRIDE) -> None:
        self._stride = stride
        self._shards: list[dict[int, int]] = [{} for _ in range(NUM_SHARDS)]
        self._counts: dict[Slot, int] = {}
        self._open = 0
        self._closed = 0
        self._sweeping = 0
        self._cursor = 0

    def __len__(self) -> int:
        """Distinct pages, those of closed slots included until they are swept."""
        return sum(map(len, self._shards))

    def count(self, slot: Slot) -> int:
        """Pages of one worker."""
        return self._counts[slot]

    def open(self) -> Slot:
        """A slot that holds nothing."""
        taken = self._open | self._closed | self._sweeping
        slot = Slot((~taken & (taken + 1)).bit_length() - 1)  # the lowest bit that is not taken
        self._open |= 1 << slot
        self._counts[slot] = 0
        return slot

    def close(self, slot: Slot) -> None:
        """All that the worker held is gone, in this very moment. Memory comes back with the sweeps."""
        self._open &= ~(1 << slot)
        self._closed |= 1 << slot
        del self._counts[slot]

    def add(self, slot: Slot, keys: Iterable[int]) -> None:
        """The worker holds these pages."""
        shards, bit, added = self._shards, 1 << slot, 0
        for key in keys:
            shard = shards[key & _SHARD_MASK]
            mask = shard.get(key, 0)
            if not mask & bit:
                shard[key] = mask | bit
                added += 1
        self._counts[slot] += added

    def drop(self, slot: Slot, keys: Iterable[int]) -> None:
        """The worker does not hold these pages any more, if it ever did."""
        shards, bit, dropped = self._shards, 1 << slot, 0
        for key in keys:
            shard = shards[key & _SHARD_MASK]
            mask = shard.get(key, 0)
            if mask & bit:
                dropped += 1
                if mask == bit:
                    del shard[key]
                else:
                    shard[key] = mask ^ bit
        self._counts[slot] -= dropped

    def runs(self, keys: Sequence[int], *also: Mapping[int, int]) -> dict[Slot, int]:
        """How many leading pages each worker holds, where there are any. `also` are tables of further bits.

        Whoever holds a page holds those before it: the cache evicts ends first. So only every STRIDE-th page is looked
        up, and the end of a run is then searched by halves. A hole shorter than that may go unseen: a hint too good,
        which costs a recompute.
        """
        found: dict[Slot, int] = {}
        left = self._open & self._mask(keys[0], also) if keys else 0
        at, end = 0, len(keys) - 1
        while left and at < end:
            after = min(at + self._stride, end)
            still = left & self._mask(keys[after], also)
            if still != left:
                self._search(found, keys, also, lost=left ^ still, held=at, missing=after)
            left, at = still, after
        _note(found, left, len(keys))
        return found

    def _search(
        self,
        found: dict[Slot, int],
        keys: Sequence[int],
        also: Sequence[Mapping[int, int]],
        *,
        lost: int,
        held: int,
        missing: int,
    ) -> None:
        """The `lost` workers have page `held` and not page `missing`: where do their runs end?"""
        while missing - held > 1:
            middle = (held + missing) // 2
            longer = lost & self._mask(keys[middle], also)
            if longer and longer != lost:
                self._search(found, keys, also, lost=lost ^ longer, held=held, missing=middle)
                lost, held = longer, middle
            elif longer:
                held = middle
            else:
                missing = middle
        _note(found, lost, missing)

    def _mask(self, key: int, also: Sequence[Mapping[int, int]]) -> int:
        mask = self._shards[key & _SHARD_MASK].get(key, 0)
        for table in also:
            mask |= table.get(key, 0)
        return mask

    def keys(self, slot: Slot) -> frozenset[int]:
        """All pages of one worker: for tests, as it walks the whole table."""
        bit = 1 << slot
        return frozenset(key for shard in self._shards for key, mask in shard.items() if mask & bit)

    def sweep(self) -> bool:
        """Forget the bits of closed slots in one shard. False when there is nothing to sweep."""
        if not self._sweeping:
            if not self._closed:
                return False
            self._sweeping, self._closed, self._cursor = self._closed, 0, 0
        gone = self._sweeping
        shard = self._shards[self._cursor]
        for key, mask in [(key, mask) for key, mask in shard.items() if mask & gone]:
            if mask & ~gone:
                shard[key] = mask & ~gone
            else:
                del shard[key]
        self._cursor += 1
        if self._cursor == NUM_SHARDS:
            self._sweeping = 0
        return True


def _note(found: dict[Slot, int], mask: int, count: int) -> None:
    """These workers' runs end here."""
    while mask and count:
        low = mask & -mask
        found[Slot(low.bit_length() - 1)] = count
        mask ^= low
