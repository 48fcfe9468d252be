"""Memory of a GPU as channels see it: an address and a size. Free of torch; whoever allocates it keeps it alive."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSpan:
    """Consecutive bytes on one GPU, a staging buffer's or a part of it."""

    address: int
    num_bytes: int
    device: int

    def __len__(self) -> int:
        return self.num_bytes

    def part(self, start: int, end: int) -> "DeviceSpan":
        """Bytes [start, end)."""
        assert 0 <= start <= end <= self.num_bytes, f"[{start}, {end}) of {self.num_bytes} bytes"
        return DeviceSpan(address=self.address + start, num_bytes=end - start, device=self.device)

    @property
    def __cuda_array_interface__(self) -> dict[str, object]:
        """How torch and others make a tensor of it, without a copy."""
        return {"shape": (self.num_bytes,), "typestr": "|u1", "data": (self.address, False), "version": 3}


@runtime_checkable
class DeviceChannel(Protocol):
    """A channel that also carries device memory as it is: the rules are those of Channel.

    Gathering must be over, or ordered before on the stream of the call, when `send_device` begins.
    """

    async def send_device(self, frame: int, data: DeviceSpan, *, timeout_s: float) -> None: ...

    async def receive_device(self, frame: int, out: DeviceSpan, *, timeout_s: float) -> None: ...
