"""What tells that pages arrived as they left: their digests under the pair's key, made and checked where they move."""

import hmac
from dataclasses import dataclass
from typing import Protocol

from common.kv.digest import DIGEST_BYTES, DigestKey, digest_pages


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """Of consecutive pages: `digests`, one of DIGEST_BYTES after the other, the first of them under `first_index`."""

    key: DigestKey
    first_index: int
    digests: bytes

    def part(self, first: int, end: int) -> "Seal":
        """Of pages [first, end) of them."""
        digests = self.digests[first * DIGEST_BYTES : end * DIGEST_BYTES]
        return Seal(key=self.key, first_index=self.first_index + first, digests=digests)

    def fits(self, found: bytes) -> bool:
        """Whether these are the digests of what was sent."""
        return hmac.compare_digest(found, self.digests)


class Sealing(Protocol):
    """Digests of pages that were gathered, or whose gather was launched."""

    @property
    def key(self) -> DigestKey: ...

    @property
    def is_made(self) -> bool:
        """`finish` computes nothing and waits for nothing."""
        ...

    def finish(self) -> bytes:
        """The digests; from here on the gather is over. Blocks: off the event loop unless `is_made`. Raises
        RuntimeError where the device failed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeSealing:
    """Made in the gather's own pass."""

    key: DigestKey
    digests: bytes
    is_made: bool = True

    def finish(self) -> bytes:
        return self.digests


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LateSealing:
    """Read out of the buffer when they are wanted: where one pass cannot do both, whoever gathers is not held up."""

    key: DigestKey
    data: memoryview
    page_bytes: int
    first_index: int
    is_made: bool = False

    def finish(self) -> bytes:
        return b"".join(digest_pages(self.data, self.page_bytes, self.key, first_index=self.first_index))


def fits_plainly(data: memoryview, page_bytes: int, seal: Seal) -> bool:
    """Whether these bytes are what was sealed, by a pass of its own."""
    return seal.fits(b"".join(digest_pages(data, page_bytes, seal.key, first_index=seal.first_index)))
