"""Both ends where the slots lie in device memory: the same ring, line and rules; only the bytes are elsewhere.

Not run on a GPU: the logic is, over a runtime that keeps its device memory in the host's. The receiver allocates the
slots and sends their cudaIpcMemHandle with its invitation, raw; the sender maps them and copies into them on the
device. Both processes must be on the same GPU, or on two of one host with peer access between them.

Shared device memory must not be freed while it is mapped elsewhere. So the sender gets, beside the ring, one end of a
pipe, its grip, and closes it when it has unmapped the slots; if its process ends, the system does. A receiver that is
done frees the slots when it hears of that, however late.
"""

import asyncio
import os
from dataclasses import dataclass

from common.kv.span import DeviceSpan
from common.transfer.pair_thread import run_aside
from common.transfer.same_host.line import Word
from common.transfer.same_host.loans import SlotLoan, SlotLoans
from common.transfer.same_host.receiving import ReceivingEnd, SlotBerth
from common.transfer.same_host.sending import SendingEnd
from common.transfer.same_host.slots import RELEASE_S, DeviceSlots
from common.transfer.scope import outlast


@dataclass(slots=True)
class Retained:
    """Device memory of rings that are over and that their senders still map. Writer: the event loop."""

    num_bytes: int = 0


class DeviceSendingEnd:
    """Sends device memory, and memory of the host. See DeviceChannel for what the caller promises. Lends slots
    (SlotChannel) where this GPU writes them as its own memory."""

    def __init__(self, end: SendingEnd, slots: DeviceSlots) -> None:
        self._end = end
        self._slots = slots
        self._copying = asyncio.Lock()
        self._loans = SlotLoans(end, num_slots=slots.num_slots, slot_bytes=slots.slot_bytes, span_of=slots.span)
        # Whoever holds this end may notice late that the pair is over; the receiver waits for its memory.
        self._ending = asyncio.get_running_loop().create_task(self._end_with_line(), name=f"end {end.pair}")

    def lend_slot(self, num_bytes: int) -> SlotLoan | None:
        return self._loans.lend(num_bytes) if self._slots.is_near else None

    async def send_device(self, frame: int, data: DeviceSpan, *, timeout_s: float) -> None:
        if (loan := self._loans.find(data)) is not None:
            await self._loans.send(frame, loan, timeout_s=timeout_s)
            return

        async def fill(slot: int) -> None:
            async with self._copying:
                self._end.check()
                await self._slots.copy(self._slots.span(slot, len(data)), data)

        await self._end.send_filled(frame, len(data), fill, timeout_s=timeout_s)

    async def send(self, frame: int, data: memoryview, *, timeout_s: float) -> None:
        async def fill(slot: int) -> None:
            async with self._copying:
                self._end.check()
                await self._slots.write(self._slots.span(slot, len(data)), data)

        await self._end.send_filled(frame, len(data), fill, timeout_s=timeout_s)

    async def receive(self, frame: int, out: memoryview, *, timeout_s: float) -> None:
        raise AssertionError(f"{self._end.pair}: this end sends")

    async def receive_device(self, frame: int, out: DeviceSpan, *, timeout_s: float) -> None:
        raise AssertionError(f"{self._end.pair}: this end sends")

    async def close(self) -> None:
        """Unmapped behind a copy that is under way, and with the last slot that is lent: whoever holds that may wait
        for this. Idempotent."""
        await self._end.close()
        if not self._loans:
            await outlast(self._ending)

    async def _end_with_line(self) -> None:
        await self._end.wait_ended()
        await self._loans.wait_back()
        async with self._copying:
            await self._slots.close()


class DeviceReceivingEnd:
    """Lends its slots to whoever verifies and lands the bytes; or receives into device memory, or the host's."""

    def __init__(self, end: ReceivingEnd, slots: DeviceSlots, grip: int, retained: Retained) -> None:
        """`grip`: the other end of the sender's."""
        self._end = end
        self._slots = slots
        self._grip = grip
        self._retained = retained
        self._is_let_go = False
        self._is_closed = False
        self._num_lent = 0
        self._freeing: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(grip, self._hear_grip)

    async def reserve(self, *, timeout_s: float) -> SlotBerth:
        """See ReceivingEnd."""
        await self._end.wait_berth(timeout_s=timeout_s)
        return SlotBerth(self)

    async def receive_device(self, frame: int, out: DeviceSpan, *, timeout_s: float) -> None:
        word = await self.take(frame, len(out), timeout_s=timeout_s)
        try:
            await self._slots.copy(out, self.bytes_of(word))
        finally:
            self.give_back(word)

    async def receive(self, frame: int, out: memoryview, *, timeout_s: float) -> None:
        word = await self.take(frame, len(out), timeout_s=timeout_s)
        try:
            await self._slots.read(out, self.bytes_of(word))
        finally:
            self.give_back(word)

    async def send(self, frame: int, data: memoryview, *, timeout_s: float) -> None:
        raise AssertionError(f"{self._end.pair}: this end receives")

    async def send_device(self, frame: int, data: DeviceSpan, *, timeout_s: float) -> None:
        raise AssertionError(f"{self._end.pair}: this end receives")

    async def close(self) -> None:
        """The slots go when the sender has let go of them and nobody reads them any more, perhaps later. Idempotent."""
        if not self._is_closed:
            self._is_closed = True
            self._retained.num_bytes += self._slots.num_bytes
            await self._end.close()
            self._free_if_over()
        if self._freeing is not None:
            await asyncio.wait({self._freeing}, timeout=RELEASE_S)  # it ends on its thread, or never, with the device

    async def take(self, frame: int, num_bytes: int, *, timeout_s: float) -> Word:
        """The frame's slot, which stays until `give_back`, whatever becomes of the pair."""
        self._num_lent += 1  # from now on: the pair may be over before whoever waits hears that the frame came
        try:
            return await self._end.take(frame, num_bytes, timeout_s=timeout_s)
        except BaseException:
            self._num_lent -= 1
            self._free_if_over()
            raise

    def bytes_of(self, word: Word) -> DeviceSpan:
        return self._slots.span(word.slot, word.num_bytes)

    def leave_berth(self) -> None:
        self._end.leave_berth()

    def give_back(self, word: Word) -> None:
        """Nobody reads it any more."""
        self._num_lent -= 1
        self._end.give_back(word)
        self._free_if_over()

    def _hear_grip(self) -> None:
        """Readable means over: nothing is ever written into it."""
        self._loop.remove_reader(self._grip)
        os.close(self._grip)
        self._is_let_go = True
        self._free_if_over()

    def _free_if_over(self) -> None:
        if self._is_closed and self._is_let_go and self._num_lent == 0 and self._freeing is None:
            self._retained.num_bytes -= self._slots.num_bytes
            self._freeing = run_aside(self._slots.close_blocking, "free device slots")
