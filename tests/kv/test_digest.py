"""The page digest: committed vectors, the definition in plain integers, and corruption that never passes.

Method: Hypothesis chooses pages and faults; what the docstring promises for certain is asserted for every example, what
it bounds by 2**-32 or less as well, because a failure would be seen once in a million runs of this file.
"""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.kv import digest
from common.kv.digest import DigestKey, digest_pages
from kernels.cpu.library import load

VECTORS = json.loads((Path(__file__).parent / "vectors" / "page_digest.json").read_text())
KEY = DigestKey(bytes(range(32)))
PAGE_BYTES = 64

pages_of_three = st.binary(min_size=3 * PAGE_BYTES, max_size=3 * PAGE_BYTES)


def digests_of(data: bytes, page_bytes: int = PAGE_BYTES) -> tuple[bytes, ...]:
    return digest_pages(memoryview(data), page_bytes, KEY)


def corrupt_pages(
    data: bytes | bytearray | memoryview, sent: tuple[bytes, ...], first_index: int = 0
) -> tuple[int, ...]:
    """Indexes of the pages whose digest is not the one that was sent."""
    found = digest_pages(memoryview(data), PAGE_BYTES, KEY, first_index=first_index)
    assert len(sent) == len(found)
    return tuple(first_index + index for index, digest in enumerate(found) if digest != sent[index])


def plain_digest(page: bytes, seed: bytes, index: int) -> bytes:
    """The definition, word by word."""
    num_words = len(page) // 4
    stream = hashlib.shake_256(b"baton.digest.1" + seed).digest(8 * (num_words + 1))
    keys = [int.from_bytes(stream[8 * j : 8 * j + 8], "little") | 1 for j in range(num_words + 1)]
    words = [int.from_bytes(page[4 * j : 4 * j + 4], "little") for j in range(num_words)]
    total = (index + 1) * keys[0] + sum(word * key for word, key in zip(words, keys[1:], strict=True))
    return (total % 2**64).to_bytes(8, "little")


@pytest.mark.parametrize("vector", VECTORS["cases"], ids=lambda vector: str(vector["name"]))
def test_the_committed_vectors_hold(vector: dict[str, Any]) -> None:
    found = digest_pages(
        memoryview(bytes.fromhex(vector["pages"])),
        int(vector["page_bytes"]),
        DigestKey(bytes.fromhex(vector["seed"])),
        first_index=int(vector["first_index"]),
    )
    assert [digest.hex() for digest in found] == vector["digests"]


@pytest.mark.parametrize("page_bytes", [8, 24, 256, 98304, 2 * 49152 * 8 + 8])
def test_a_digest_is_the_documented_formula_at_every_page_size(page_bytes: int) -> None:
    """The largest page is wider than the pieces it is summed in; the smallest share one piece."""
    data = random.Random(page_bytes).randbytes(3 * page_bytes)
    seed = bytes(range(32))
    expected = [plain_digest(data[n * page_bytes : (n + 1) * page_bytes], seed, n) for n in range(3)]
    assert list(digests_of(data, page_bytes)) == expected


@pytest.mark.parametrize("num_pages", [0, 1, 4, 7])
@pytest.mark.parametrize("page_bytes", [8, 24, 4104, 98304])
def test_native_code_and_numpy_agree_bit_for_bit(
    page_bytes: int, num_pages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    native = load().native
    if native is None:
        pytest.skip(load().reason)
    view = memoryview(random.Random(page_bytes).randbytes(num_pages * page_bytes))
    found = []
    for way in (native, None):
        monkeypatch.setattr(digest, "loaded_native", lambda way=way: way)
        found.append(digest_pages(view, page_bytes, KEY, first_index=11))
    assert found[0] == found[1]


def test_a_digest_never_waits_for_a_compiler() -> None:
    """A process that asked for no native operators has none, and its digests do not load any."""
    load.cache_clear()
    digests_of(bytes(PAGE_BYTES))
    assert load.cache_info().currsize == 0


@given(data=pages_of_three, bit=st.integers(0, 3 * PAGE_BYTES * 8 - 1))
@settings(max_examples=500)
def test_any_single_bit_flip_is_found_in_its_page(data: bytes, bit: int) -> None:
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    assert corrupt_pages(flipped, digests_of(data)) == (bit // 8 // PAGE_BYTES,)


def test_every_bit_of_a_page_is_covered() -> None:
    clean = random.Random(7).randbytes(PAGE_BYTES)
    (digest,) = digests_of(clean)
    for bit in range(PAGE_BYTES * 8):
        flipped = bytearray(clean)
        flipped[bit // 8] ^= 1 << bit % 8
        assert corrupt_pages(flipped, (digest,)) == (0,)


@given(data=pages_of_three, one=st.integers(0, 2), two=st.integers(0, 2))
def test_swapped_pages_are_found(data: bytes, one: int, two: int) -> None:
    pages = [data[n * PAGE_BYTES : (n + 1) * PAGE_BYTES] for n in range(3)]
    pages[one], pages[two] = pages[two], pages[one]
    wrong = tuple(n for n in range(3) if pages[n] != data[n * PAGE_BYTES : (n + 1) * PAGE_BYTES])
    assert corrupt_pages(b"".join(pages), digests_of(data)) == wrong


@given(data=pages_of_three, by=st.integers(1, 3 * PAGE_BYTES - 1))
def test_bytes_shifted_by_any_distance_are_found(data: bytes, by: int) -> None:
    shifted = data[by:] + data[:by]
    found = corrupt_pages(shifted, digests_of(data))
    assert bool(found) == (shifted != data)


@given(data=pages_of_three, start=st.integers(0, 3 * PAGE_BYTES), length=st.integers(0, PAGE_BYTES))
def test_a_range_of_zeros_is_found(data: bytes, start: int, length: int) -> None:
    end = min(start + length, len(data))
    zeroed = data[:start] + bytes(end - start) + data[end:]
    assert bool(corrupt_pages(zeroed, digests_of(data))) == (zeroed != data)


@given(data=pages_of_three, words=st.sets(st.integers(0, 15), min_size=1))
def test_flipped_signs_of_many_floats_are_found(data: bytes, words: set[int]) -> None:
    """The worst case of the bound: every difference is a multiple of 2**31."""
    wrong = bytearray(data)
    for word in words:
        wrong[4 * word + 3] ^= 0x80
    assert corrupt_pages(wrong, digests_of(data)) == (0,)


def test_right_bytes_under_a_wrong_index_are_found() -> None:
    data = memoryview(random.Random(3).randbytes(2 * PAGE_BYTES))
    sent = digest_pages(data, PAGE_BYTES, KEY, first_index=8)
    assert corrupt_pages(data, sent, first_index=8) == ()
    assert corrupt_pages(data, sent, first_index=9) == (9, 10)


def test_a_page_of_zeros_has_no_digest_of_zeros() -> None:
    assert bytes(8) not in digests_of(bytes(3 * PAGE_BYTES))


def test_another_key_gives_other_digests() -> None:
    data = random.Random(5).randbytes(3 * PAGE_BYTES)
    other = digest_pages(memoryview(data), PAGE_BYTES, DigestKey(b"another seed of thirty-two bytes"))
    assert not set(digests_of(data)) & set(other)


def test_no_page_gives_no_digest() -> None:
    assert digests_of(b"") == ()


def test_a_view_that_is_not_whole_pages_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="not whole pages"):
        digests_of(bytes(PAGE_BYTES + 8))
