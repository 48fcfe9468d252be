"""Do pages that move on a stream of their own keep their order with the steps? Part of tests.gpu.decode_step's checks.

On a GPU a step is a spin of the device before a write, long enough that whoever does not wait for it is seen. NOT RUN
YET; without a GPU the same calls are made in one order, which shows only that the script runs.
"""

from collections.abc import Callable

import torch

from common.core.ids import PageId
from common.engine.device import pinned_memory
from common.kv.cuda_stream import CudaMark
from common.kv.digest import SEED_BYTES, DigestKey, digest_pages
from common.kv.staging import host_memory
from common.kv.torch_device import TorchPageDevice
from common.kv.torch_storage import TorchStorage

SPIN_CYCLES = 400_000_000
"""Chosen: some 0.2 s, far above what a copy of a page takes and what a launch does."""
WRITTEN, READ = PageId(1), PageId(2)


def moves_keep_their_order(storage: TorchStorage) -> bool:
    """Storage of at least three pages, whose contents are lost."""
    pages_PB = storage.kv_PL2HSD.view(len(storage.kv_PL2HSD), -1).view(torch.uint8)
    streams, size, is_on_gpu = storage.streams, storage.layout.page_bytes, storage.device.type == "cuda"
    out, data = (pinned_memory if is_on_gpu else host_memory)(size), bytes(range(256)) * (size // 256 + 1)

    def slow_step(value: int) -> None:
        streams.begin_step()
        if is_on_gpu:
            torch.cuda._sleep(SPIN_CYCLES)  # type: ignore[no-untyped-call]  # the one way to keep a device busy
        pages_PB[WRITTEN].fill_(value)

    # A kernel's first launch loads it, which may wait for the whole device.
    storage.scatter([READ], memoryview(bytearray(size)))
    slow_step(7)
    streams.settle(streams.end_step())
    storage.gather([WRITTEN], out)
    is_right = bytes(out) == bytes([7]) * size  # behind the step that was settled
    slow_step(8)
    in_flight = streams.end_step()
    storage.gather([WRITTEN], out)
    storage.scatter([READ], memoryview(bytearray(data[:size])))
    if isinstance(in_flight, CudaMark):
        is_right &= not in_flight.event.query()  # type: ignore[no-untyped-call]  # neither waited for it
    streams.begin_step()
    read_B = pages_PB[READ].clone()
    streams.end_step().finish()
    return is_right and bytes(read_B.tolist()) == data[:size] and _lifted_in_order(storage, slow_step)


def _lifted_in_order(storage: TorchStorage, slow_step: Callable[[int], None]) -> bool:
    """Into the device's own memory: behind what the step has reached, before the next one writes; digested there."""
    streams, size = storage.streams, storage.layout.page_bytes
    device, key = TorchPageDevice(storage.device, streams), DigestKey(bytes(range(SEED_BYTES)))
    span = device.make_buffer(size)
    slow_step(9)
    streams.reach()
    storage.gather([WRITTEN], span)
    streams.end_step()
    slow_step(10)
    found = device.digests(span, size, key, first_index=3)
    return found == b"".join(digest_pages(memoryview(bytes([9]) * size), size, key, first_index=3))
