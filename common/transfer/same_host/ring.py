"""The shared memory of a pair: a page of headers, then slots of one size. The receiver makes it, the sender maps it.

    FREE --sender fills, stamps and announces--> FULL --receiver takes--> LENT --receiver gives back--> FREE

Only the sender writes, and only into FREE slots; it learns from the receiver alone that a slot is FREE again. A pair
that breaks takes its ring with it: memory that the other end may still touch is never used for anything else. A slot's
stamp carries a generation that grows with every use, so a word about an earlier use is recognised.
"""

import fcntl
import mmap
import os
import struct
from contextlib import suppress
from dataclasses import dataclass

from common.core.errors import Reason, TransferFailed
from common.transfer.messages import Pair

MAGIC = b"BATONRNG"
VERSION = 1
HEADER = struct.Struct("<8sIIQQQQ")  # magic, version, slots, bytes of a slot, nonce, epoch of sender, of receiver
STAMP = struct.Struct("<QQQ")  # generation, frame, bytes
STAMPS_AT = 64
HEADER_BYTES = 4096
MAX_SLOTS = (HEADER_BYTES - STAMPS_AT) // STAMP.size
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
"""Nobody can change the size any more: a mapped page never becomes a SIGBUS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What a full slot holds."""

    generation: int
    frame: int
    num_bytes: int


class SharedRing:
    """One end's mapping. Slots are views of it; the memory ends with the last view at both ends."""

    def __init__(self, descriptor: int, *, num_slots: int, slot_bytes: int) -> None:
        self.num_slots = num_slots
        self.slot_bytes = slot_bytes
        self._mapping: mmap.mmap | None = mmap.mmap(descriptor, ring_bytes(num_slots, slot_bytes))

    def slot(self, slot: int) -> memoryview:
        """All bytes of one slot, writable."""
        start = HEADER_BYTES + slot * _stride(self.slot_bytes)
        return memoryview(self._memory)[start : start + self.slot_bytes]

    def stamp(self, slot: int, stamp: Stamp) -> None:
        """The sender's, before it announces the slot."""
        STAMP.pack_into(self._memory, _stamp_at(slot), stamp.generation, stamp.frame, stamp.num_bytes)

    def stamp_of(self, slot: int) -> Stamp:
        generation, frame, num_bytes = STAMP.unpack_from(self._memory, _stamp_at(slot))
        return Stamp(generation=generation, frame=frame, num_bytes=num_bytes)

    def write_header(self, pair: Pair) -> None:
        HEADER.pack_into(self._memory, 0, *_header(pair, self.num_slots, self.slot_bytes))

    def check_header(self, pair: Pair) -> None:
        """Raises TransferFailed unless this is the ring of exactly this pair of incarnations."""
        if HEADER.unpack_from(self._memory, 0) != _header(pair, self.num_slots, self.slot_bytes):
            raise TransferFailed(message=f"{pair}: the ring belongs to another pair", reason=Reason.CHANNEL_BROKEN)

    def close(self) -> None:
        """Unmaps now, or with the last slot that is still lent: whoever keeps the ring keeps no memory. Idempotent."""
        mapping, self._mapping = self._mapping, None
        if mapping is not None:
            with suppress(BufferError):
                mapping.close()

    @property
    def _memory(self) -> mmap.mmap:
        assert self._mapping is not None, "a ring is used after its end"
        return self._mapping


def create_ring(pair: Pair, *, num_slots: int, slot_bytes: int) -> tuple[SharedRing, int]:
    """A new ring and its descriptor, which the caller hands over and closes. Memory is taken as slots are touched."""
    assert 0 < num_slots <= MAX_SLOTS, f"{num_slots} slots"
    descriptor = os.memfd_create("baton-ring", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, ring_bytes(num_slots, slot_bytes))
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
        ring = SharedRing(descriptor, num_slots=num_slots, slot_bytes=slot_bytes)
    except BaseException:
        os.close(descriptor)
        raise
    ring.write_header(pair)
    return ring, descriptor


def adopt_ring(descriptor: int, pair: Pair, *, num_slots: int, slot_bytes: int) -> SharedRing:
    """Maps what the other end handed over. Raises TransferFailed when it is not what was agreed."""
    wanted = ring_bytes(num_slots, slot_bytes)
    found = os.fstat(descriptor).st_size
    try:
        is_sealed = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & SEALS == SEALS
    except OSError:  # no memory file at all
        is_sealed = False
    if found != wanted or not is_sealed or num_slots > MAX_SLOTS:
        message = f"{pair}: {found} bytes were handed over, sealed {is_sealed}; {wanted} sealed ones were agreed"
        raise TransferFailed(message=message, reason=Reason.CHANNEL_BROKEN)
    ring = SharedRing(descriptor, num_slots=num_slots, slot_bytes=slot_bytes)
    ring.check_header(pair)
    return ring


def ring_bytes(num_slots: int, slot_bytes: int) -> int:
    return HEADER_BYTES + num_slots * _stride(slot_bytes)


def _stride(slot_bytes: int) -> int:
    """Slots begin on a page."""
    return -(-slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE


def _stamp_at(slot: int) -> int:
    return STAMPS_AT + slot * STAMP.size


def _header(pair: Pair, num_slots: int, slot_bytes: int) -> tuple[bytes, int, int, int, int, int, int]:
    return MAGIC, VERSION, num_slots, slot_bytes, pair.nonce, pair.sender.epoch, pair.receiver.epoch
