"""Digests of pages and copies of them, by every instruction set of this machine, against plain integers and slices."""

import itertools
import random

import numpy as np
import pytest

from kernels.cpu.library import Native
from kernels.cpu.native_pages import KeyHalves, copy_pages, move_pages, page_digests

GUARD = 64
"""Bytes around what may be touched."""


def plain_digest(page: bytes, keys: list[int], index: int) -> int:
    words = np.frombuffer(page, dtype="<u4").tolist()
    total = (index + 1) * keys[0] + sum(word * key for word, key in zip(words, keys[1:], strict=True))
    return int(total % 2**64)


@pytest.mark.parametrize("num_pages", [0, 1, 3, 4, 5, 9])
@pytest.mark.parametrize("num_words", [2, 6, 62, 510, 512, 514, 1026, 2050])
def test_a_digest_is_the_documented_formula(native: Native, num_words: int, num_pages: int) -> None:
    """Around the tile of 512 words and the group of 4 pages, at an odd address, with words and keys of all ones."""
    print(f"seed {num_words}")
    draw = random.Random(num_words)
    keys = [draw.getrandbits(64) | 1 for _ in range(num_words)] + [2**64 - 1]
    data = bytearray(b"\x5a" + draw.randbytes(num_pages * num_words * 4))
    data[1:9] = b"\xff" * min(8, len(data) - 1)
    pages_U = np.frombuffer(memoryview(data)[1:], dtype="<u8")
    stream = np.array(keys[1:], dtype=np.uint64)
    halves = KeyHalves(
        position=keys[0],
        low_W=stream.astype(np.uint32),
        high_W=(stream >> np.uint64(32)).astype(np.uint32),
    )
    found = page_digests(native, pages_U, halves, 2**31)
    pages = [bytes(data[1 + n * num_words * 4 : 1 + (n + 1) * num_words * 4]) for n in range(num_pages)]
    assert found.tolist() == [plain_digest(page, keys, 2**31 + n) for n, page in enumerate(pages)]


@pytest.mark.parametrize("page_bytes", [8, 24, 4096, 196608])
def test_copied_pages_lie_where_they_belong_and_nothing_else_is_touched(native: Native, page_bytes: int) -> None:
    numbers = [5, 6, 0, 3]
    draw = random.Random(page_bytes)
    pages = np.frombuffer(bytearray(draw.randbytes(7 * page_bytes + GUARD)), dtype=np.uint8)
    before = pages.copy()
    buffer = bytearray(b"\x5a" * (GUARD + len(numbers) * page_bytes + GUARD))
    view = memoryview(buffer)[GUARD:-GUARD]
    copy_pages(native, pages.ctypes.data, page_bytes, numbers, view, is_scatter=False)
    assert bytes(view) == b"".join(pages[n * page_bytes : (n + 1) * page_bytes].tobytes() for n in numbers)
    assert buffer[:GUARD] == buffer[-GUARD:] == b"\x5a" * GUARD
    assert np.array_equal(pages, before)

    sent = draw.randbytes(len(numbers) * page_bytes)
    copy_pages(native, pages.ctypes.data, page_bytes, numbers, memoryview(sent), is_scatter=True)
    for place, number in enumerate(numbers):
        before[number * page_bytes : (number + 1) * page_bytes] = np.frombuffer(
            sent[place * page_bytes : (place + 1) * page_bytes], dtype=np.uint8
        )
    assert np.array_equal(pages, before)


@pytest.mark.parametrize(
    ("num_words", "num_pages"),
    [*itertools.product((2, 62, 512, 514, 2050), (0, 1, 3, 4, 5, 9)), (131072, 1), (131072 + 2, 5)],
)
def test_pages_are_copied_and_digested_in_one_pass(native: Native, num_words: int, num_pages: int) -> None:
    """Both ways, from and to odd addresses, around the stretch that is summed before it is copied; nothing beside them
    is touched."""
    draw, size = random.Random(num_words + num_pages), num_words * 4
    keys = [draw.getrandbits(64) | 1 for _ in range(num_words + 1)]
    stream = np.array(keys[1:], dtype=np.uint64)
    halves = KeyHalves(
        position=keys[0], low_W=stream.astype(np.uint32), high_W=(stream >> np.uint64(32)).astype(np.uint32)
    )
    numbers = draw.sample(range(11), num_pages)
    pages = np.frombuffer(bytearray(draw.randbytes(11 * size + GUARD)), dtype=np.uint8)[1:]
    before = pages.tobytes()
    buffer = bytearray(b"\x5a" * (GUARD + 1 + num_pages * size + GUARD))
    view = memoryview(buffer)[GUARD + 1 : -GUARD]
    found = move_pages(native, pages.ctypes.data, numbers, view, halves, 5, is_scatter=False)
    taken = [before[n * size : (n + 1) * size] for n in numbers]
    assert view == b"".join(taken)
    assert found.tolist() == [plain_digest(page, keys, 5 + at) for at, page in enumerate(taken)]
    assert buffer[: GUARD + 1] == b"\x5a" * (GUARD + 1)
    assert buffer[-GUARD:] == b"\x5a" * GUARD
    assert pages.tobytes() == before

    sent = draw.randbytes(num_pages * size)
    found = move_pages(native, pages.ctypes.data, numbers, memoryview(sent), halves, 7, is_scatter=True)
    cut = [sent[at * size : (at + 1) * size] for at in range(num_pages)]
    assert found.tolist() == [plain_digest(page, keys, 7 + at) for at, page in enumerate(cut)]
    expected = bytearray(before)
    for number, page in zip(numbers, cut, strict=True):
        expected[number * size : (number + 1) * size] = page
    assert pages.tobytes() == expected


def test_pages_are_not_gathered_into_what_cannot_be_written(native: Native) -> None:
    with pytest.raises(AssertionError, match="cannot be written"):
        copy_pages(native, 0, 8, [0], memoryview(bytes(8)), is_scatter=False)
