"""A GPU that pages lie on, as those see it who carry them. Free of torch."""

from typing import Protocol

from common.kv.digest import DigestKey
from common.kv.span import DeviceSpan

MAX_KEYS = 32
"""Chosen: sets of keys that lie on the GPU, one per live pair and size of run. Beyond, the set used longest ago is made
again when it is wanted, in some ms."""


def key_bytes(page_bytes: int) -> int:
    """Of the GPU's memory, for one set: 8 bytes for each 4 of a page."""
    return 2 * page_bytes


class PageDevice(Protocol):
    """Any thread may call. What is asked of bytes that were gathered comes behind the gather.

    `digests`, `finish_lift` and `copy_out` block until they are done, and raise RuntimeError where the device failed:
    it computes nothing more for this process.
    """

    def make_buffer(self, num_bytes: int) -> DeviceSpan:
        """Memory of the GPU, for as long as the process lives. Raises StartupError when there is not enough."""
        ...

    def digests(self, data: DeviceSpan, page_bytes: int, key: DigestKey, *, first_index: int) -> bytes:
        """One of DIGEST_BYTES for each page in `data`, which holds pages `first_index`, `first_index` + 1, ...: what
        digest.digest_pages says of the same bytes in the host's memory."""
        ...

    def make_keys(self, page_bytes: int, key: DigestKey) -> None:
        """So that whoever gathers or digests under this key finds it there. Some ms of the calling thread; raises
        TransferFailed where there is no memory for them."""
        ...

    def finish_lift(self, out: DeviceSpan) -> None:
        """Blocks until nothing that was gathered into `out` is under way: from here on its memory may be unmapped."""
        ...

    def copy_out(self, data: DeviceSpan, out: memoryview) -> None:
        """To as many bytes of the host's."""
        ...
