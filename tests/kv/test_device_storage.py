"""Pages on a GPU come and go through the kernels that move them, here in Triton's interpreter, bit for bit.

The interpreter says nothing about streams, pinned memory or speed: tests/gpu does, where there is a GPU.
"""

import random
from collections.abc import Iterator

import pytest
import torch

from common.core.ids import PageId
from common.kv.layout import PageLayout
from common.kv.torch_storage import TorchStorage
from kernels.dispatch import interpreted

NUM_PAGES = 5
LAYOUT = PageLayout(num_layers=2, num_kv_heads=2, head_dim=8, page_size=4, dtype="bfloat16")


@pytest.fixture(autouse=True)
def on_a_device() -> Iterator[None]:
    torch.set_num_threads(1)
    with interpreted():
        yield


def filled() -> tuple[TorchStorage, list[bytes]]:
    """A storage with random bytes in every page; the scratch page is zero."""
    storage = TorchStorage(LAYOUT, NUM_PAGES, has_scratch=True)
    data = random.Random(11).randbytes(NUM_PAGES * LAYOUT.page_bytes)
    storage.scatter([PageId(page) for page in range(NUM_PAGES)], memoryview(data))
    return storage, [data[page * LAYOUT.page_bytes : (page + 1) * LAYOUT.page_bytes] for page in range(NUM_PAGES)]


def read(storage: TorchStorage, *pages: int) -> bytes:
    out = bytearray(len(pages) * LAYOUT.page_bytes)
    storage.gather([PageId(page) for page in pages], memoryview(out))
    return bytes(out)


def test_pages_are_gathered_in_the_order_of_the_table() -> None:
    storage, contents = filled()
    for order in [(0, 1, 2), (4, 0, 3), (2, 2), (), (1,)]:
        assert read(storage, *order) == b"".join(contents[page] for page in order)


def test_scattering_leaves_other_pages_and_the_scratch_page_alone() -> None:
    storage, contents = filled()
    new = random.Random(12).randbytes(2 * LAYOUT.page_bytes)
    storage.scatter([PageId(3), PageId(0)], memoryview(new))
    expected = [new[LAYOUT.page_bytes :], contents[1], contents[2], new[: LAYOUT.page_bytes], contents[4]]
    assert read(storage, *range(NUM_PAGES)) == b"".join(expected)
    assert storage.scratch == NUM_PAGES
    assert not storage.kv_PL2HSD[NUM_PAGES].view(torch.uint8).any()


@pytest.mark.parametrize("page", [-1, NUM_PAGES])
def test_a_page_outside_the_pool_is_a_bug_the_scratch_page_too(page: int) -> None:
    storage, _ = filled()
    with pytest.raises(AssertionError, match=f"{page}"):
        read(storage, page)
    with pytest.raises(AssertionError, match=f"{page}"):
        storage.scatter([PageId(page)], memoryview(bytes(LAYOUT.page_bytes)))
