"""What a worker owns, as the bytes of its snapshot: always ready, so that telling all of it is one copy."""

from common.rpc.convert.directory import SHORT_HASH_BYTES


class OwnedHashes:
    """Short hashes without order, one after the other; the last one fills the place of one that leaves.

    Writer: the registration. Three megabytes are copied in under a millisecond; joining 200,000 hashes anew took fifty.
    """

    def __init__(self) -> None:
        self._places: dict[bytes, int] = {}
        self._joined = bytearray()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, short: bytes) -> bool:
        return short in self._places

    def add(self, short: bytes) -> None:
        """Idempotent."""
        if short not in self._places:
            self._places[short] = len(self._places)
            self._joined += short

    def discard(self, short: bytes) -> None:
        """Idempotent."""
        place = self._places.pop(short, None)
        if place is None:
            return
        last = bytes(self._joined[-SHORT_HASH_BYTES:])
        del self._joined[-SHORT_HASH_BYTES:]
        if last != short:
            start = place * SHORT_HASH_BYTES
            self._joined[start : start + SHORT_HASH_BYTES] = last
            self._places[last] = place

    def joined(self) -> bytes:
        """All of them."""
        return bytes(self._joined)
