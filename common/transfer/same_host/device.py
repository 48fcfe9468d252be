"""Both ends where the slots lie in device memory: the same ring, line and rules; only the bytes are elsewhere.

Not run on a GPU: the logic is, over a runtime that keeps its device memory in the host's. The receiver allocates the
slots and sends their cudaIpcMemHandle with its invitation, raw; the sender maps them and copies into them on the
device. Both processes must see the same GPU, or two of one host with peer access between them.

Shared device memory must not be freed while it is mapped elsewhere. So a sender unmaps before it closes its line, and a
receiver that ends a pair before its sender has let go keeps the slots until its process ends: they are counted.
"""

import asyncio

from common.core.errors import Reason, TransferFailed
from common.kv.span import DeviceSpan
from common.transfer.messages import DeviceMemory, SameHostInvitation
from common.transfer.same_host.cudart import DeviceRuntime
from common.transfer.same_host.receiving import ReceivingEnd
from common.transfer.same_host.sending import SendingEnd
from common.transfer.scope import outlast

SLOT_ALIGNMENT = 512
"""What cudaMalloc aligns to: slots begin as allocations do."""


class DeviceSlots:
    """The slots of one ring, in device memory that is ours or mapped."""

    def __init__(self, runtime: DeviceRuntime, address: int, *, num_slots: int, slot_bytes: int, is_ours: bool) -> None:
        self.num_slots = num_slots
        self.slot_bytes = slot_bytes
        self._runtime = runtime
        self._address: int | None = address
        self._is_ours = is_ours

    def span(self, slot: int, num_bytes: int) -> DeviceSpan:
        assert self._address is not None, "the slots are gone"
        assert num_bytes <= self.slot_bytes, f"{num_bytes} bytes in a slot of {self.slot_bytes}"
        address = self._address + slot * _stride(self.slot_bytes)
        return DeviceSpan(address=address, num_bytes=num_bytes, device=0)

    async def copy(self, into: DeviceSpan, source: DeviceSpan) -> None:
        """Returns or raises only once neither is touched any more."""
        loop = asyncio.get_running_loop()
        await outlast(loop.run_in_executor(None, self._runtime.copy, into.address, source.address, len(source)))

    def memory(self) -> DeviceMemory:
        """How another process maps them."""
        assert self._address is not None, "the slots are gone"
        return DeviceMemory(device_uuid=self._runtime.bus_id, ipc_handle=self._runtime.export(self._address))

    def close(self) -> None:
        """Frees what is ours, unmaps what is not. Idempotent."""
        address, self._address = self._address, None
        if address is not None and self._is_ours:
            self._runtime.free(address)
        elif address is not None:
            self._runtime.close(address)

    def abandon(self) -> int:
        """Somebody may still map them: how many bytes stay taken."""
        was_open, self._address = self._address is not None, None
        return self.num_slots * _stride(self.slot_bytes) * was_open


def create_slots(runtime: DeviceRuntime, *, num_slots: int, slot_bytes: int) -> DeviceSlots:
    """At the receiver."""
    address = runtime.allocate(num_slots * _stride(slot_bytes))
    return DeviceSlots(runtime, address, num_slots=num_slots, slot_bytes=slot_bytes, is_ours=True)


def adopt_slots(runtime: DeviceRuntime, invitation: SameHostInvitation) -> DeviceSlots:
    """At the sender. Raises TransferFailed when the receiver's memory cannot be mapped here."""
    if invitation.device is None:
        raise TransferFailed(message="the other end receives into host memory", reason=Reason.CHANNEL_BROKEN)
    address = runtime.open(invitation.device.ipc_handle)
    return DeviceSlots(
        runtime, address, num_slots=invitation.num_slots, slot_bytes=invitation.slot_bytes, is_ours=False
    )


class DeviceSendingEnd:
    """Sends device memory. See DeviceChannel for what the caller promises."""

    def __init__(self, end: SendingEnd, slots: DeviceSlots) -> None:
        self._end = end
        self._slots = slots
        self._copying = asyncio.Lock()

    async def send_device(self, frame: int, data: DeviceSpan, *, timeout_s: float) -> None:
        async def fill(slot: int) -> None:
            async with self._copying:
                await self._slots.copy(self._slots.span(slot, len(data)), data)

        await self._end.send_filled(frame, len(data), fill, timeout_s=timeout_s)

    async def receive_device(self, frame: int, out: DeviceSpan, *, timeout_s: float) -> None:
        raise AssertionError(f"{self._end.pair}: this end sends")

    async def close(self) -> None:
        """Unmapped first, behind a copy that is under way; then the receiver may hear of it."""
        async with self._copying:
            self._slots.close()
        await self._end.close()


class DeviceReceivingEnd:
    """Receives into device memory."""

    def __init__(self, end: ReceivingEnd, slots: DeviceSlots) -> None:
        self.abandoned_bytes = 0
        """Device memory that could not be freed, because the sender had not let go of it."""
        self._end = end
        self._slots = slots

    async def receive_device(self, frame: int, out: DeviceSpan, *, timeout_s: float) -> None:
        word = await self._end.take(frame, len(out), timeout_s=timeout_s)
        try:
            await self._slots.copy(out, self._slots.span(word.slot, word.num_bytes))
        finally:
            self._end.give_back(word)

    async def send_device(self, frame: int, data: DeviceSpan, *, timeout_s: float) -> None:
        raise AssertionError(f"{self._end.pair}: this end receives")

    async def close(self) -> None:
        is_left = self._end.is_left
        await self._end.close()
        if is_left:
            self._slots.close()
        else:
            self.abandoned_bytes += self._slots.abandon()


def _stride(slot_bytes: int) -> int:
    return -(-slot_bytes // SLOT_ALIGNMENT) * SLOT_ALIGNMENT
