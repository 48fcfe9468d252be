"""A channel of a GPU's memory without one: the loopback, with all its faults, between spans of pretended memory."""

import ctypes
from dataclasses import dataclass, field

from common.kv.span import DeviceSpan
from common.kv.staging import StagingPool, host_memory
from common.transfer.channel import Channel, Side
from common.transfer.dock import Dock
from common.transfer.loopback import LoopbackNetwork
from common.transfer.messages import HostFacts, Pair
from common.transfer.offload import InlineOffload, Offload
from common.transfer.rendezvous import RendezvousStore
from tests.kv.host_page_device import HostPageDevice


def memory_of(span: DeviceSpan) -> memoryview:
    return memoryview((ctypes.c_ubyte * len(span)).from_address(span.address)).cast("B")


@dataclass
class DeviceLoopback:
    """Factory of both ends. `num_host` counts frames of the host's memory, `num_device` those of the GPU's."""

    network: LoopbackNetwork
    name: str = "device_loopback"
    max_pairs: int | None = None
    num_host: int = field(default=0, init=False)
    num_device: int = field(default=0, init=False)

    def misfit(self, there: HostFacts | None) -> str:
        return ""

    async def open(self, pair: Pair, side: Side, store: RendezvousStore, *, timeout_s: float) -> "DeviceLoopbackEnd":
        return DeviceLoopbackEnd(await self.network.open(pair, side, store, timeout_s=timeout_s), self)


@dataclass
class DeviceLoopbackEnd:
    """Channel and DeviceChannel."""

    channel: Channel
    factory: DeviceLoopback

    async def send(self, frame: int, data: memoryview, *, timeout_s: float) -> None:
        self.factory.num_host += 1
        await self.channel.send(frame, data, timeout_s=timeout_s)

    async def receive(self, frame: int, out: memoryview, *, timeout_s: float) -> None:
        await self.channel.receive(frame, out, timeout_s=timeout_s)

    async def send_device(self, frame: int, data: DeviceSpan, *, timeout_s: float) -> None:
        self.factory.num_device += 1
        await self.channel.send(frame, memory_of(data), timeout_s=timeout_s)

    async def receive_device(self, frame: int, out: DeviceSpan, *, timeout_s: float) -> None:
        await self.channel.receive(frame, memory_of(out), timeout_s=timeout_s)

    async def close(self) -> None:
        await self.channel.close()


@dataclass
class Card:
    """One worker's GPU, and its dock."""

    num_bytes: int
    count: int = 2
    offload: Offload = field(default_factory=InlineOffload)
    device: HostPageDevice = field(default_factory=HostPageDevice)
    host_buffers: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dock = Dock(
            device=self.device,
            incoming=StagingPool(self.count, self.num_bytes, make_buffer=self.device.make_buffer),
            leaving=StagingPool(self.count, self.num_bytes, make_buffer=self.device.make_buffer),
            make_host_buffer=self._make_host,
            offload=self.offload,
        )

    @property
    def is_idle(self) -> bool:
        """Nothing of its staging is out."""
        return self.dock.incoming.num_free == self.dock.leaving.num_free == self.count

    def _make_host(self, num_bytes: int) -> memoryview:
        self.host_buffers.append(num_bytes)
        return host_memory(num_bytes)
