"""Consecutive bytes that a run of pages lies in on its way: the host's, or a GPU's. Free of torch."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSpan:
    """Consecutive bytes on one GPU, a staging buffer's or a part of it. Whoever allocated them keeps them alive."""

    address: int
    num_bytes: int
    device: int

    def __len__(self) -> int:
        return self.num_bytes

    @property
    def nbytes(self) -> int:
        return self.num_bytes

    def __getitem__(self, part: slice) -> "DeviceSpan":
        """A part of it, as of a memoryview."""
        start, end, step = part.indices(self.num_bytes)
        assert step == 1, f"every {step}th of {self.num_bytes} bytes"
        return self.part(start, max(start, end))

    def part(self, start: int, end: int) -> "DeviceSpan":
        """Bytes [start, end)."""
        assert 0 <= start <= end <= self.num_bytes, f"[{start}, {end}) of {self.num_bytes} bytes"
        return DeviceSpan(address=self.address + start, num_bytes=end - start, device=self.device)

    @property
    def __cuda_array_interface__(self) -> dict[str, object]:
        """How torch and others make a tensor of it, without a copy."""
        return {"shape": (self.num_bytes,), "typestr": "|u1", "data": (self.address, False), "version": 3}


Span = memoryview | DeviceSpan
"""Both have a length in bytes, and slices."""


def address_of(span: Span) -> int:
    """Where its bytes begin, of which there are some."""
    return span.address if isinstance(span, DeviceSpan) else np.frombuffer(span, dtype=np.uint8).ctypes.data
