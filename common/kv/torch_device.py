"""Staging in the memory of the GPU that holds the pages, through torch. NOT RUN ON A GPU YET.

Where kernels are interpreted, memory of the device is memory of the host at the same address: that is how all but the
GPU itself is tested.

Legend: N pages, B bytes of a page, W words of 4 bytes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import torch

from common.core.errors import Reason, StartupError, TransferFailed
from common.kv.cuda_stream import on_device
from common.kv.device_keys import DeviceKeys
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
        with on_device(self._device), self._memory_for(f"digests of {len(data)} bytes"):
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
        with on_device(self._device), self._memory_for("digest keys"):
            self._keys.of(key, page_bytes)

    def finish_lift(self, out: DeviceSpan) -> None:
        self._streams.finish_lift(out)

    def copy_out(self, data: DeviceSpan, out: memoryview) -> None:
        assert len(data) == len(out), f"{len(data)} bytes into {len(out)}"
        with on_device(self._device):
            data_B, out_B = tensor_of(data, self._device), torch.frombuffer(out, dtype=torch.uint8)
            self._streams.read(lambda: out_B.copy_(data_B, non_blocking=True), data)

    @contextmanager
    def _memory_for(self, what: str) -> Iterator[None]:
        """A GPU that is full is no broken GPU: what wanted memory fails, and nothing else."""
        try:
            yield
        except torch.OutOfMemoryError:
            message = f"{self._device} has no memory for {what}: lower engine.memory_fraction"
            raise TransferFailed(message=message, reason=Reason.MEMORY_PRESSURE) from None


def tensor_of(span: DeviceSpan, device: torch.device) -> torch.Tensor:
    """bytes_B of the span where they lie, without a copy; valid as long as the memory is."""
    if device.type == "cuda":
        bytes_B = torch.as_tensor(span, device=device)
        # Memory of another device would be copied, and nobody would see what is written to the copy.
        assert bytes_B.data_ptr() == span.address, f"{span} does not lie on {device}"
        return bytes_B
    # numpy knows the same description by another name.
    return torch.from_numpy(np.asarray(SimpleNamespace(__array_interface__=span.__cuda_array_interface__)))
