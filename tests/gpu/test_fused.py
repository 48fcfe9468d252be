"""The fused moves in Triton's interpreter: digests bit for bit the CPU's, and what is corrupt is found."""

import ctypes
import random
from collections.abc import Iterator

import pytest
import torch

from common.core.ids import PageId
from common.kv.digest import DigestKey, digest_pages
from common.kv.layout import PageLayout
from common.kv.torch_device import TorchPageDevice
from common.kv.torch_storage import TorchStorage
from kernels.dispatch import interpreted
from tests.gpu.fused import FusedMoves

LAYOUT = PageLayout(num_layers=2, num_kv_heads=2, head_dim=8, page_size=4, dtype="bfloat16")
SIZE, KEY = LAYOUT.page_bytes, DigestKey(bytes(range(32)))
THERE, HERE = [PageId(3), PageId(0), PageId(2)], [PageId(1), PageId(3), PageId(0)]


@pytest.fixture(autouse=True)
def on_a_device() -> Iterator[None]:
    torch.set_num_threads(1)
    with interpreted():
        yield


@pytest.mark.parametrize("flipped", [None, 0, 2 * SIZE + 17])
def test_pages_pass_through_a_slot_with_the_cpus_digests_and_a_flipped_bit_is_found(flipped: int | None) -> None:
    storages = [TorchStorage(LAYOUT, 4) for _ in range(2)]
    device = TorchPageDevice(torch.device("cpu"), storages[0].streams)  # its memory ends with it
    slot = device.make_buffer(3 * SIZE)
    contents = [random.Random(page).randbytes(SIZE) for page in range(4)]
    storages[0].scatter([PageId(page) for page in range(4)], memoryview(bytearray(b"".join(contents))))
    sending, receiving = (FusedMoves(storage, KEY) for storage in storages)
    sent = b"".join(contents[page] for page in THERE)
    digests = sending.gather(THERE, slot, first_index=5)
    assert ctypes.string_at(slot.address, len(slot)) == sent
    assert digests == b"".join(digest_pages(memoryview(sent), SIZE, KEY, first_index=5))
    if flipped is not None:
        ctypes.memset(slot.address + flipped, sent[flipped] ^ 1, 1)
    assert receiving.scatter(HERE, slot, digests, first_index=5) == (flipped is None)
    assert not receiving.scatter(HERE, slot, digests, first_index=6)
    landed = bytearray(3 * SIZE)
    storages[1].gather(HERE, memoryview(landed))
    assert (landed == sent) == (flipped is None)
