"""One conformance suite for every PageStorage: bytes go where they are told, and nowhere else."""

import random
from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.core.ids import PageId
from common.kv import torch_storage
from common.kv.digest import DigestKey, digest_pages
from common.kv.layout import WORD_BYTES, LayerSpan, PageLayout
from common.kv.seal import Seal
from common.kv.sim_layout import sim_layout
from common.kv.sim_storage import SimStorage
from common.kv.storage import PageStorage
from common.kv.torch_storage import TorchStorage
from kernels.cpu.library import Native, load

NUM_PAGES = 7

torch.set_num_threads(1)


def torch_layout(dtype: str) -> PageLayout:
    return PageLayout(num_layers=3, num_kv_heads=2, head_dim=5, page_size=4, dtype=dtype)


def host_storage(dtype: str, native: Native | None) -> TorchStorage:
    """Copies by native code or by torch, whatever this process has loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_storage, "loaded_native", lambda: native)
        return TorchStorage(torch_layout(dtype), NUM_PAGES)


STORAGES: dict[str, Callable[[], PageStorage]] = {
    "sim": lambda: SimStorage(sim_layout(page_size=4), NUM_PAGES),
    **{f"{dtype} by torch": partial(host_storage, dtype, None) for dtype in torch_storage.DTYPES},
    **{f"{dtype} by native code": partial(host_storage, dtype, load().native) for dtype in torch_storage.DTYPES},
}


@pytest.fixture(params=STORAGES)
def storage(request: pytest.FixtureRequest) -> PageStorage:
    return STORAGES[request.param]()


def pages_of(*numbers: int) -> tuple[PageId, ...]:
    return tuple(PageId(number) for number in numbers)


def read(storage: PageStorage, pages: Sequence[PageId]) -> bytes:
    out = bytearray(len(pages) * storage.layout.page_bytes)
    storage.gather(pages, memoryview(out))
    return bytes(out)


def fill(storage: PageStorage, seed: int) -> list[bytes]:
    """Write random bytes, every bit pattern among them, into all pages."""
    data = random.Random(seed).randbytes(NUM_PAGES * storage.layout.page_bytes)
    storage.scatter(pages_of(*range(NUM_PAGES)), memoryview(bytearray(data)))
    size = storage.layout.page_bytes
    return [data[page * size : (page + 1) * size] for page in range(NUM_PAGES)]


def test_a_new_storage_is_all_zeros(storage: PageStorage) -> None:
    every = pages_of(*range(storage.num_pages))
    assert read(storage, every) == bytes(NUM_PAGES * storage.layout.page_bytes)


@pytest.mark.parametrize("name", STORAGES)
@given(order=st.permutations(range(NUM_PAGES)), count=st.integers(0, NUM_PAGES))
def test_gather_returns_bit_by_bit_what_scatter_wrote_in_any_order(name: str, order: list[int], count: int) -> None:
    storage = STORAGES[name]()
    pages = pages_of(*order[:count])
    data = random.Random(count).randbytes(count * storage.layout.page_bytes)
    storage.scatter(pages, memoryview(bytearray(data)))
    assert read(storage, pages) == data
    others = pages_of(*order[count:])
    assert read(storage, others) == bytes(len(others) * storage.layout.page_bytes)


@pytest.mark.parametrize("num", [1, 2])
def test_layers_of_pages_are_read_and_written_and_nothing_beside_them(storage: PageStorage, num: int) -> None:
    layout, pages = storage.layout, pages_of(4, 0, 1, 5)
    if layout.num_layers % num:
        pytest.skip(f"{layout.num_layers} layers have no part of {num}")
    contents = fill(storage, seed=6)
    for first in range(0, layout.num_layers, num):
        span = LayerSpan(first=first, num=num)
        size = layout.part_bytes(span)
        start = first * layout.page_bytes // layout.num_layers
        out = bytearray(len(pages) * size)
        storage.gather(pages, memoryview(out), span)
        assert bytes(out) == b"".join(contents[page][start : start + size] for page in pages)
        data = random.Random(first).randbytes(len(out))
        storage.scatter(pages, memoryview(bytearray(data)), span)
        for place, page in enumerate(pages):
            part = data[place * size : (place + 1) * size]
            contents[page] = contents[page][:start] + part + contents[page][start + size :]
        assert read(storage, pages_of(*range(NUM_PAGES))) == b"".join(contents)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (5, 0, 1, 2, 6), (4, 4), (3,)])
def test_gather_follows_the_order_of_the_page_table(storage: PageStorage, order: tuple[int, ...]) -> None:
    contents = fill(storage, seed=1)
    assert read(storage, pages_of(*order)) == b"".join(contents[page] for page in order)


def test_copy_and_zero_change_one_page(storage: PageStorage) -> None:
    contents = fill(storage, seed=2)
    storage.copy(PageId(1), PageId(5))
    storage.zero(PageId(2))
    contents[5] = contents[1]
    contents[2] = bytes(storage.layout.page_bytes)
    assert read(storage, pages_of(*range(NUM_PAGES))) == b"".join(contents)


def test_a_slice_of_a_larger_buffer_is_filled_and_read_in_place(storage: PageStorage) -> None:
    contents = fill(storage, seed=3)
    size = storage.layout.page_bytes
    buffer = bytearray(b"\xaa" * (3 * size))
    storage.gather(pages_of(4), memoryview(buffer)[size : 2 * size])
    assert bytes(buffer) == b"\xaa" * size + contents[4] + b"\xaa" * size
    storage.scatter(pages_of(0), memoryview(buffer)[2 * size :])
    assert read(storage, pages_of(0)) == b"\xaa" * size


def test_read_only_bytes_can_be_scattered(storage: PageStorage) -> None:
    data = random.Random(4).randbytes(storage.layout.page_bytes)
    storage.scatter(pages_of(3), memoryview(data))
    assert read(storage, pages_of(3)) == data


@pytest.mark.parametrize("excess", [-1, 1])
def test_a_buffer_of_another_size_is_a_bug(storage: PageStorage, excess: int) -> None:
    buffer = memoryview(bytearray(storage.layout.page_bytes + excess))
    with pytest.raises(AssertionError, match="bytes for 1 pages"):
        storage.gather(pages_of(0), buffer)
    with pytest.raises(AssertionError, match="bytes for 1 pages"):
        storage.scatter(pages_of(0), buffer)


@pytest.mark.parametrize("page", [-1, NUM_PAGES])
def test_a_page_outside_the_storage_is_a_bug(storage: PageStorage, page: int) -> None:
    buffer = memoryview(bytearray(storage.layout.page_bytes))
    acts: list[Callable[[], None]] = [
        lambda: storage.gather(pages_of(page), buffer),
        lambda: storage.scatter(pages_of(page), buffer),
        lambda: storage.copy(PageId(0), PageId(page)),
        lambda: storage.copy(PageId(page), PageId(0)),
        lambda: storage.zero(PageId(page)),
    ]
    for act in acts:
        with pytest.raises(AssertionError, match=f"{page}"):
            act()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_page_in_flight_is_the_tensor_the_layout_describes(dtype: str) -> None:
    """Element by element: [num_layers, 2, num_kv_heads, page_size, head_dim]."""
    storage = TorchStorage(torch_layout(dtype), NUM_PAGES)
    fill(storage, seed=5)
    page = torch.frombuffer(bytearray(read(storage, pages_of(2))), dtype=storage.kv_PL2HSD.dtype)
    expected = storage.kv_PL2HSD[2].contiguous().view(torch.uint8)
    assert torch.equal(page.view(3, 2, 2, 4, 5).view(torch.uint8), expected)


def test_a_layer_is_written_in_place() -> None:
    storage = TorchStorage(torch_layout("float32"), NUM_PAGES)
    assert storage.kv_PL2HSD.shape == (NUM_PAGES, 3, 2, 2, 4, 5)
    storage.kv_PL2HSD[4, 1, 0, 1, 2] = 7.0
    page = torch.frombuffer(bytearray(read(storage, pages_of(4))), dtype=torch.float32).view(3, 2, 2, 4, 5)
    assert page[1, 0, 1, 2].tolist() == [7.0] * 5
    assert page.count_nonzero() == 5


def test_a_simulated_page_is_writable_in_place() -> None:
    storage = SimStorage(sim_layout(page_size=4), NUM_PAGES)
    storage.page(PageId(3))[16:32] = b"x" * 16
    assert read(storage, pages_of(3)) == bytes(16) + b"x" * 16 + bytes(32)


def test_a_layout_whose_token_is_no_simulated_slot_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="takes 16 bytes"):
        SimStorage(torch_layout("float32"), NUM_PAGES)


KEY = DigestKey(bytes(range(32)))


@pytest.mark.parametrize("num", [None, 1])
def test_sealed_pages_carry_the_digests_of_what_went_out(storage: PageStorage, num: int | None) -> None:
    fill(storage, 5)
    layers, pages = None if num is None else LayerSpan(first=1, num=num), pages_of(4, 0, 6)
    size = storage.layout.part_bytes(layers)
    plain, out = bytearray(3 * size), memoryview(bytearray(3 * size))
    storage.gather(pages, memoryview(plain), layers)
    if size % WORD_BYTES:
        pytest.skip("digests are of whole words")
    sealing = storage.gather_sealed(pages, out, KEY, first_index=9, layers=layers)
    assert sealing.finish() == b"".join(digest_pages(memoryview(plain), size, KEY, first_index=9))
    assert sealing.key is KEY
    assert out == plain


@pytest.mark.parametrize("flipped", [None, 0, 2])
def test_pages_land_and_what_is_not_what_was_sealed_is_found(storage: PageStorage, flipped: int | None) -> None:
    """By its page; pages beside those that land keep what they hold."""
    before, size = fill(storage, 6), storage.layout.page_bytes
    pages, sent = pages_of(3, 1, 5), random.Random(7).randbytes(3 * size)
    seal = Seal(key=KEY, first_index=2, digests=b"".join(digest_pages(memoryview(sent), size, KEY, first_index=2)))
    data = bytearray(sent)
    if flipped is not None:
        data[flipped * size + size // 2] ^= 1
    assert storage.scatter_sealed(pages, memoryview(data), seal) == (flipped is None)
    if flipped is None:
        assert read(storage, pages) == sent
    assert read(storage, pages_of(0, 2, 4, 6)) == b"".join(before[page] for page in (0, 2, 4, 6))
    own = [
        storage.scatter_sealed([page], memoryview(data)[at * size : (at + 1) * size], seal.part(at, at + 1))
        for at, page in enumerate(pages)
    ]
    assert own == [at != flipped for at in range(3)]
    other_place = Seal(key=KEY, first_index=3, digests=seal.digests)
    assert not storage.scatter_sealed(pages, memoryview(bytearray(sent)), other_place)
