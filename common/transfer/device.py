"""Channels that carry a GPU's memory as it is. Whoever allocates that memory keeps it alive."""

from typing import Protocol, runtime_checkable

from common.kv.span import DeviceSpan


@runtime_checkable
class DeviceChannel(Protocol):
    """A channel that also carries device memory as it is: the rules are those of Channel.

    Who holds a channel asks `isinstance(channel, DeviceChannel)`; what is not one gets frames of host memory alone.
    Gathering must be over, or ordered before on the stream of the call, when `send_device` begins.
    """

    async def send_device(self, frame: int, data: DeviceSpan, *, timeout_s: float) -> None: ...

    async def receive_device(self, frame: int, out: DeviceSpan, *, timeout_s: float) -> None: ...
