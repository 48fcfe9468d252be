"""Native digests of pages, copies of them, and both at once: how buffers are handed over.

native/pages.cpp says how they are computed.

All let other threads run meanwhile, and use no thread but the caller's.

Legend: N pages, W words of 4 bytes, U unsigned 64-bit words of all pages.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from kernels.cpu.library import Native


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeyHalves:
    """Digest keys as native code reads them: k[0], and the 32-bit halves of k[1] to k[W]. Contiguous."""

    position: int
    low_W: npt.NDArray[np.uint32]
    high_W: npt.NDArray[np.uint32]


def page_digests(
    native: Native, pages_U: npt.NDArray[np.uint64], keys: KeyHalves, first_index: int
) -> npt.NDArray[np.uint64]:
    """digests_N of contiguous pages, at any address, bit for bit as common/kv/digest defines them."""
    page_bytes = 4 * len(keys.low_W)
    num_pages, rest = divmod(pages_U.nbytes, page_bytes)
    assert rest == 0, f"{pages_U.nbytes} bytes are not whole pages of {page_bytes}"
    assert pages_U.flags.c_contiguous, "pages with gaps between their words"
    digests_N = np.empty(num_pages, dtype=np.uint64)
    pages, low, high, digests = (each.ctypes.data for each in (pages_U, keys.low_W, keys.high_W, digests_N))
    _bound(native, "baton_page_digests", "piippiip")(
        pages, page_bytes, num_pages, low, high, _signed(keys.position), first_index, digests
    )
    return digests_N


def copy_pages(
    native: Native, pages: int, page_bytes: int, numbers: Sequence[int], buffer: memoryview, *, is_scatter: bool
) -> None:
    """Copy the pages `numbers` at address `pages` into `buffer`, or out of it into them: one call, however many.

    The caller vouches that the pages exist, and keeps both alive. `buffer` may be read-only when it is the source.
    """
    assert buffer.nbytes == len(numbers) * page_bytes, f"{buffer.nbytes} bytes for {len(numbers)} pages"
    assert is_scatter or not buffer.readonly, "pages are gathered into a buffer that cannot be written"
    table = array("q", numbers)
    address = np.frombuffer(buffer, dtype=np.uint8).ctypes.data
    _bound(native, "baton_copy_pages", "pipipi")(
        pages, page_bytes, table.buffer_info()[0], len(table), address, int(is_scatter)
    )


def move_pages(
    native: Native,
    pages: int,
    numbers: Sequence[int],
    buffer: memoryview,
    keys: KeyHalves,
    first_index: int,
    *,
    is_scatter: bool,
) -> npt.NDArray[np.uint64]:
    """As `copy_pages`, with digests_N of what was copied, taken on its way."""
    page_bytes = 4 * len(keys.low_W)
    assert buffer.nbytes == len(numbers) * page_bytes, f"{buffer.nbytes} bytes for {len(numbers)} pages"
    assert is_scatter or not buffer.readonly, "pages are gathered into a buffer that cannot be written"
    table, digests_N = array("q", numbers), np.empty(len(numbers), dtype=np.uint64)
    address = np.frombuffer(buffer, dtype=np.uint8).ctypes.data
    low, high, digests = (each.ctypes.data for each in (keys.low_W, keys.high_W, digests_N))
    _bound(native, "baton_move_pages", "pipipippiip")(
        pages,
        page_bytes,
        table.buffer_info()[0],
        len(table),
        address,
        int(is_scatter),
        low,
        high,
        _signed(keys.position),
        first_index,
        digests,
    )
    return digests_N


def _signed(word: int) -> int:
    """As an argument that has 64 bits and a sign."""
    return word - 2**64 if word >= 2**63 else word


@cache
def _bound(native: Native, name: str, kinds: str) -> Callable[..., int]:
    return native.bind(name, kinds)
