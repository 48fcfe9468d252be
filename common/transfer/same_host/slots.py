"""The slots of one ring in device memory: the receiver allocates them, the sender maps them.

Not run on a GPU: device.py says what was.
"""

import asyncio
import os
from collections.abc import Callable

from common.kv.span import DeviceSpan
from common.transfer.messages import DeviceMemory, SameHostInvitation
from common.transfer.pair_thread import run_aside
from common.transfer.same_host.cudart import DeviceRuntime
from common.transfer.scope import outlast

SLOT_ALIGNMENT = 512
"""What cudaMalloc aligns to: slots begin as allocations do."""
RELEASE_S = 5.0
"""Chosen: to free or unmap waits for what runs on the device, some steps; longer than this nobody waits for it."""


class DeviceSlots:
    """The slots of one ring, in device memory that is ours or mapped."""

    def __init__(
        self,
        runtime: DeviceRuntime,
        address: int,
        *,
        num_slots: int,
        slot_bytes: int,
        grip: int | None = None,
        is_near: bool = True,
    ) -> None:
        """`grip`: memory of another process, and what tells it that we let go. None: ours."""
        self.num_slots = num_slots
        self.slot_bytes = slot_bytes
        self.is_near = is_near
        """On the very GPU of this process's pages: its kernels write them as their own memory."""
        self._runtime = runtime
        self._address: int | None = address
        self._grip = grip

    @property
    def num_bytes(self) -> int:
        return self.num_slots * _stride(self.slot_bytes)

    def span(self, slot: int, num_bytes: int) -> DeviceSpan:
        assert self._address is not None, "the slots are gone"
        assert num_bytes <= self.slot_bytes, f"{num_bytes} bytes in a slot of {self.slot_bytes}"
        address = self._address + slot * _stride(self.slot_bytes)
        return DeviceSpan(address=address, num_bytes=num_bytes, device=self._runtime.device)

    async def copy(self, into: DeviceSpan, source: DeviceSpan) -> None:
        """All four return or raise only once neither side is touched any more."""
        await self._run(lambda: self._runtime.copy(into.address, source.address, len(source)))

    async def write(self, into: DeviceSpan, data: memoryview) -> None:
        await self._run(lambda: self._runtime.write(into.address, data))

    async def read(self, out: memoryview, source: DeviceSpan) -> None:
        await self._run(lambda: self._runtime.read(out, source.address))

    def memory(self) -> DeviceMemory:
        """How another process maps them."""
        assert self._address is not None, "the slots are gone"
        return DeviceMemory(device_uuid=self._runtime.bus_id, ipc_handle=self._runtime.export(self._address))

    async def close(self) -> None:
        """Off the event loop: a device that is busy is waited for, within bounds."""
        ended = run_aside(self.close_blocking, "close device slots")
        await asyncio.wait({ended}, timeout=RELEASE_S)  # it ends on its thread, or never, with the device

    def close_blocking(self) -> None:
        """Frees what is ours; unmaps what is not, and then lets go of it. Idempotent."""
        address, self._address = self._address, None
        if address is None:
            return
        if self._grip is None:
            self._runtime.free(address)
            return
        try:
            self._runtime.close(address)
        finally:
            os.close(self._grip)

    async def _run(self, work: Callable[[], None]) -> None:
        await outlast(asyncio.get_running_loop().run_in_executor(None, work))


def create_slots(runtime: DeviceRuntime, *, num_slots: int, slot_bytes: int) -> DeviceSlots:
    """At the receiver. Blocks."""
    address = runtime.allocate(num_slots * _stride(slot_bytes))
    return DeviceSlots(runtime, address, num_slots=num_slots, slot_bytes=slot_bytes)


def adopt_slots(runtime: DeviceRuntime, invitation: SameHostInvitation, grip: int) -> DeviceSlots:
    """At the sender. Blocks; takes over the grip. Raises TransferFailed when the receiver's memory cannot be mapped."""
    try:
        assert invitation.device is not None, "an invitation into host memory"
        address = runtime.open(invitation.device.ipc_handle)
    except BaseException:
        os.close(grip)
        raise
    return DeviceSlots(
        runtime,
        address,
        num_slots=invitation.num_slots,
        slot_bytes=invitation.slot_bytes,
        grip=grip,
        is_near=invitation.device.device_uuid == runtime.bus_id,
    )


def _stride(slot_bytes: int) -> int:
    return -(-slot_bytes // SLOT_ALIGNMENT) * SLOT_ALIGNMENT
