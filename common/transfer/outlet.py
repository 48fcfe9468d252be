"""Frames on their way into one channel, from whichever memory they lie in."""

from common.kv.span import DeviceSpan, Span
from common.transfer.channel import Channel
from common.transfer.device import DeviceChannel, Slot, SlotChannel
from common.transfer.dock import Dock


class Outlet:
    """As the bytes lie, where the channel takes that. A frame of a GPU's memory that it does not take goes through one
    host buffer, made at the first such frame and kept: frames of one channel leave one at a time.

    Owner: the link.
    """

    def __init__(self, channel: Channel, dock: Dock | None) -> None:
        self._channel = channel
        self._dock = dock
        self._bounce: memoryview | None = None

    async def send(self, frame: int, data: Span, *, timeout_s: float) -> None:
        """As Channel.send."""
        if isinstance(data, DeviceSpan) and isinstance(self._channel, DeviceChannel):
            await self._channel.send_device(frame, data, timeout_s=timeout_s)
            return
        host = await self._brought(data) if isinstance(data, DeviceSpan) else data
        await self._channel.send(frame, host, timeout_s=timeout_s)

    def lend_slot(self, num_bytes: int) -> Slot | None:
        """Where the next frame may be made, so that `send` copies nothing; None where it is to be made elsewhere. Any
        thread."""
        is_same_memory = isinstance(self._channel, DeviceChannel) == (self._dock is not None)
        if not is_same_memory or not isinstance(self._channel, SlotChannel):
            return None
        return self._channel.lend_slot(num_bytes)

    async def _brought(self, data: DeviceSpan) -> memoryview:
        assert self._dock is not None, "bytes of a GPU where there is none"
        device, make = self._dock.device, self._dock.make_host_buffer
        if self._bounce is None or len(self._bounce) < len(data):
            made = await self._dock.offload.run(lambda: make(len(data)))
            assert isinstance(made, memoryview), "a host buffer lies in the host's memory"
            self._bounce = made
        out = self._bounce[: len(data)]
        await self._dock.offload.run(lambda: device.copy_out(data, out))
        return out
