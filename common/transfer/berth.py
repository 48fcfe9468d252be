"""Room at the receiver for one frame: in a staging buffer of its own, or wherever the channel lends it."""

from common.kv.staging import Staging, StagingPool
from common.transfer.channel import Berth, Channel, LendingChannel


async def find_berth(channel: Channel, staging: StagingPool, *, timeout_s: float) -> Berth:
    """Raises Refused when there is no room in time."""
    if isinstance(channel, LendingChannel):
        return await channel.reserve(timeout_s=timeout_s)
    return StagedBerth(channel, await staging.acquire(timeout_s))


class StagedBerth:
    """A buffer of the staging pool, into which the channel copies."""

    def __init__(self, channel: Channel, staging: Staging) -> None:
        self._channel = channel
        self._staging = staging

    @property
    def view(self) -> memoryview:
        return self._staging.view

    async def receive(self, frame: int, num_bytes: int, *, timeout_s: float) -> None:
        await self._channel.receive(frame, self._staging.view[:num_bytes], timeout_s=timeout_s)

    def release(self) -> None:
        self._staging.release()
