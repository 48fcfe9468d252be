"""Staging in the memory of the GPU that holds the pages, through torch. NOT RUN ON A GPU YET.

Where kernels are interpreted, memory of the device is memory of the host at the same address: that is how all but the
GPU itself is tested.

Legend: N pages, B bytes of a page, W words of 4 bytes.
"""

import torch

from common.core.errors import Reason, StartupError
from common.kv.cuda_stream import on_device
from common.kv.device_keys import DeviceKeys
from common.kv.device_memory import memory_for, tensor_of
from common.kv.digest import DigestKey
from common.kv.page_streams import PageStreams
from common.kv.span import DeviceSpan
from kernels.page_move import digest_pages


class TorchPageDevice:
    """PageDevice on the streams of a storage's pages."""

    def __init__(self, device: torch.device, streams: PageStreams, keys: DeviceKeys | None = None) -> None:
        """`keys`: those that the storage moves pages with, so that a pair's lie there once."""
        self._device = device
        self._streams = streams
        self._buffers: list[torch.Tensor] = []
        self._keys = DeviceKeys(device, streams) if keys is None else keys

    def make_buffer(self, num_bytes: int) -> DeviceSpan:
        try:
            buffer_B = torch.empty(num_bytes, dtype=torch.uint8, device=self._device)
        except torch.OutOfMemoryError:
            raise StartupError(
                message=f"{num_bytes} bytes of {self._device} are not free for staging: lower engine.memory_fraction, "
                "transfer.staging_count or transfer.staging_bytes",
                reason=Reason.MEMORY_PRESSURE,
            ) from None
        self._buffers.append(buffer_B)
        return DeviceSpan(address=buffer_B.data_ptr(), num_bytes=num_bytes, device=self._device.index or 0)

    def digests(self, data: DeviceSpan, page_bytes: int, key: DigestKey, *, first_index: int) -> bytes:
        assert len(data) % page_bytes == 0, f"{len(data)} bytes are not whole pages of {page_bytes}"
        with on_device(self._device), memory_for(self._device, f"digests of {len(data)} bytes"):
            return self._digests(data, page_bytes, key, first_index)

    def _digests(self, data: DeviceSpan, page_bytes: int, key: DigestKey, first_index: int) -> bytes:
        pages_NB = tensor_of(data, self._device).view(-1, page_bytes)
        told_N = torch.empty(len(pages_NB), dtype=torch.int64, pin_memory=self._device.type == "cuda")
        keys = self._keys.of(key, page_bytes)

        def tell() -> None:
            told_N.copy_(digest_pages(pages_NB, keys.there(), first_index), non_blocking=True)

        self._streams.read(tell, data)
        return told_N.numpy().astype("<i8").tobytes()

    def make_keys(self, page_bytes: int, key: DigestKey) -> None:
        with on_device(self._device), memory_for(self._device, "digest keys"):
            self._keys.of(key, page_bytes)

    def finish_lift(self, out: DeviceSpan) -> None:
        self._streams.finish_lift(out)

    def copy_out(self, data: DeviceSpan, out: memoryview) -> None:
        assert len(data) == len(out), f"{len(data)} bytes into {len(out)}"
        with on_device(self._device):
            data_B, out_B = tensor_of(data, self._device), torch.frombuffer(out, dtype=torch.uint8)
            self._streams.read(lambda: out_B.copy_(data_B, non_blocking=True), data)
