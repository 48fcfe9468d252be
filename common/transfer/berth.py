"""Room at the receiver for one frame: in a staging buffer of its own, or wherever the channel lends it."""

from common.kv.span import Span
from common.kv.staging import Staging, StagingPool
from common.transfer.channel import Berth, Channel, LendingChannel
from common.transfer.device import DeviceChannel
from common.transfer.dock import Dock


async def find_berth(channel: Channel, staging: StagingPool, dock: Dock | None, *, timeout_s: float) -> Berth:
    """Raises Refused when there is no room in time."""
    if isinstance(channel, LendingChannel):
        return await channel.reserve(timeout_s=timeout_s)
    if dock is not None and isinstance(channel, DeviceChannel):
        return StagedBerth(channel, await dock.incoming.acquire(timeout_s))
    return StagedBerth(channel, await staging.acquire(timeout_s))


class StagedBerth:
    """A buffer of a staging pool, into which the channel copies."""

    def __init__(self, channel: Channel, staging: Staging) -> None:
        self._channel = channel
        self._staging = staging

    @property
    def view(self) -> Span:
        return self._staging.view

    async def receive(self, frame: int, num_bytes: int, *, timeout_s: float) -> None:
        out = self._staging.view[:num_bytes]
        if isinstance(out, memoryview):
            await self._channel.receive(frame, out, timeout_s=timeout_s)
            return
        assert isinstance(self._channel, DeviceChannel), f"{out} is not of the host's memory"
        await self._channel.receive_device(frame, out, timeout_s=timeout_s)

    def release(self) -> None:
        self._staging.release()
