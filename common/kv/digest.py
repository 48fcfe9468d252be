"""The page digest: what a sender computes before a page leaves, and a receiver after it came.

Scheme baton.digest.1. A page is W little-endian unsigned 32-bit words w[0..W-1], i its index within the request:

    digest = (i + 1) k[0] + w[0] k[1] + w[1] k[2] + ... + w[W-1] k[W]      modulo 2**64, sent little-endian
    k[j]   = bytes 8j to 8j+7 of SHAKE-256("baton.digest.1" || seed), little-endian, lowest bit set

Only integer addition and multiplication modulo 2**64: no order of summation, width of vector or device can change the
result. The keys are odd, and drawn anew for every pair of workers (seed, 32 bytes), so corruption cannot depend on
them. What passes undetected, for keys that behave as random:

* A change within one word (any bit flip, any burst inside a word), or the right bytes under a wrong index: never.
  The change is d k[j] with 0 < abs(d) < 2**32 and k[j] odd, and that is not 0 modulo 2**64.
* Any other change (pages or words swapped, shifted, zeroed, stale): with probability at most 2**(t-63), where t is the
  lowest position, 0 to 31, at which a bit of some word differs. For k[j] = 2u + 1 the sum leaves one equation
  u d = c modulo 2**63, which has at most 2**t solutions u. Worst case 2**-32, one in 4 billion; where a lowest bit
  differs somewhere, as in practice, 2**-63.

This finds faults, it does not authenticate: who sees pages and their digests can solve for the keys. Attackers on the
network are TLS's business.

Speed: native code where this process computes with native operators (kernels/cpu/native/pages.cpp), numpy elsewhere,
bit for bit the same. Measured in November 2026 on one thread of a 2-core AMD EPYC (Zen 4) busy with other work, 25 MB
in turn with a copy of the same bytes: copy 13.6 GB/s, native 17.3, numpy 5.6 (best of 15; medians 12.9, 16.1, 3.3).
Numpy's way is two integer dot products per 64-bit word x with high half h: w k + w' k' = x k + h (k' - 2**32 k) saves
splitting off the low half w. Others: widen, multiply, add 0.75 to 1.0 of its speed; widen, dot 0.75; torch 0.65; groups
of 64 KiB instead of 384 KiB 0.7. Repeat: `tests/kv/bench_digest.py`.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from common.kv.layout import WORD_BYTES
from common.kv.scheme import DIGEST_SCHEME
from kernels.cpu.library import loaded_native
from kernels.cpu.native_pages import KeyHalves, page_digests

DIGEST_BYTES = 8
SEED_BYTES = 32
GROUP_WORDS = 49152  # Measured: 384 KiB of pages and as much scratch stay in a 1 MiB L2 and amortise numpy's calls.

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageKeys:
    """Keys for pages of one size, in the form that `_sums` wants."""

    position: np.uint64
    """k[0], for the page's index."""
    low: Words
    """k[1], k[3], ...: one per 64-bit word."""
    high: Words
    """k[2] - 2**32 k[1], k[4] - 2**32 k[3], ..."""


class DigestKey:
    """The key of one pair of workers, expanded from 32 random bytes. Immutable, safe to share between threads."""

    __slots__ = ("_seed",)

    def __init__(self, seed: bytes) -> None:
        assert len(seed) == SEED_BYTES, f"a digest key grows from {SEED_BYTES} bytes, not {len(seed)}"
        self._seed = seed

    def stream(self, count: int) -> Words:
        """k[0] to k[count - 1]."""
        stream = hashlib.shake_256(DIGEST_SCHEME.encode() + self._seed).digest(count * WORD_BYTES)
        return np.frombuffer(stream, dtype="<u8") | np.uint64(1)

    def expand(self, page_bytes: int) -> None:
        """Makes and remembers what digests of such pages want: some ms for a large page."""
        if loaded_native() is None:
            self.page_keys(page_bytes)
        else:
            self.key_halves(page_bytes)

    def page_keys(self, page_bytes: int) -> PageKeys:
        """Keys for pages of `page_bytes`, twice as many bytes. Remembered: a pair's pages all have one size."""
        return _page_keys(self._seed, page_bytes)

    def key_halves(self, page_bytes: int) -> KeyHalves:
        """The same for native code."""
        return _key_halves(self._seed, page_bytes)


@lru_cache(maxsize=64)
def _page_keys(seed: bytes, page_bytes: int) -> PageKeys:
    keys = DigestKey(seed).stream(page_bytes // 4 + 1)
    low = keys[1::2].copy()
    return PageKeys(position=keys[0], low=low, high=keys[2::2] - (low << np.uint64(32)))


@lru_cache(maxsize=64)
def _key_halves(seed: bytes, page_bytes: int) -> KeyHalves:
    keys = DigestKey(seed).stream(page_bytes // 4 + 1)
    low, high = keys[1:].astype(np.uint32), (keys[1:] >> np.uint64(32)).astype(np.uint32)
    return KeyHalves(position=int(keys[0]), low_W=low, high_W=high)


def digest_pages(view: memoryview, page_bytes: int, key: DigestKey, *, first_index: int = 0) -> tuple[bytes, ...]:
    """One digest of 8 bytes for each page in `view`, which holds pages `first_index`, `first_index` + 1, ...

    Pure and long: call it off the event loop. Lets other threads run while it computes.
    """
    assert page_bytes % WORD_BYTES == 0, f"a page of {page_bytes} bytes is not whole words of {WORD_BYTES}"
    assert view.nbytes % page_bytes == 0, f"{view.nbytes} bytes are not whole pages of {page_bytes}"
    words = np.frombuffer(view, dtype="<u8")
    native = loaded_native()
    if native is None:
        found = _plain_digests(words, page_bytes, key, first_index)
    else:
        found = page_digests(native, words, key.key_halves(page_bytes), first_index)
    digests = found.astype("<u8").tobytes()
    return tuple(digests[start : start + DIGEST_BYTES] for start in range(0, len(digests), DIGEST_BYTES))


def _plain_digests(words: Words, page_bytes: int, key: DigestKey, first_index: int) -> Words:
    pages, keys = words.reshape(-1, page_bytes // WORD_BYTES), key.page_keys(page_bytes)
    indexes = np.arange(first_index + 1, first_index + 1 + len(pages), dtype=np.uint64)
    return _sums(pages, keys) + indexes * keys.position


def _sums(pages: Words, keys: PageKeys) -> Words:
    """w[0] k[1] + w[1] k[2] + ... of each page, in pieces that stay in the cache of one core."""
    num_pages, num_words = pages.shape
    columns = min(num_words, GROUP_WORDS)
    rows = max(1, GROUP_WORDS // num_words)
    scratch = np.empty((min(rows, num_pages), columns), dtype=np.uint64)
    sums = np.zeros(num_pages, dtype=np.uint64)
    for row in range(0, num_pages, rows):
        for column in range(0, num_words, columns):
            words = pages[row : row + rows, column : column + columns]
            high = np.right_shift(words, np.uint64(32), out=scratch[: words.shape[0], : words.shape[1]])
            part = slice(column, column + columns)
            sums[row : row + rows] += np.einsum("pw,w->p", words, keys.low[part])
            sums[row : row + rows] += np.einsum("pw,w->p", high, keys.high[part])
    return sums
