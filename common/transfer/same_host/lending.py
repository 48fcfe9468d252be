"""The sending end of a ring in the host's memory: copies frames into it, or has them made there."""

import asyncio
from functools import partial

from common.transfer.same_host.loans import SlotLoan, SlotLoans
from common.transfer.same_host.ring import SharedRing
from common.transfer.same_host.sending import SendingEnd
from common.transfer.scope import outlast


class HostSendingEnd:
    """Channel and SlotChannel: a frame is copied into the ring, a slot that was lent is sent as it lies.

    Writer: the event loop; any thread may ask for a slot.
    """

    def __init__(self, end: SendingEnd) -> None:
        ring = end.ring
        self._end = end
        self._loans = SlotLoans(end, num_slots=ring.num_slots, slot_bytes=ring.slot_bytes, span_of=partial(_span, ring))
        self._ending = asyncio.get_running_loop().create_task(self._end_with_line(), name=f"end {end.pair}")

    def lend_slot(self, num_bytes: int) -> SlotLoan | None:
        return self._loans.lend(num_bytes)

    async def send(self, frame: int, data: memoryview, *, timeout_s: float) -> None:
        if (loan := self._loans.find(data)) is not None:
            await self._loans.send(frame, loan, timeout_s=timeout_s)
        else:
            await self._end.send(frame, data, timeout_s=timeout_s)

    async def receive(self, frame: int, out: memoryview, *, timeout_s: float) -> None:
        await self._end.receive(frame, out, timeout_s=timeout_s)

    async def close(self) -> None:
        """The ring stays mapped for whoever holds a slot of it, and may wait for this. Idempotent."""
        self._end.hang_up()
        if not self._loans:
            await outlast(self._ending)

    async def _end_with_line(self) -> None:
        """A slot may be asked for until nothing is lent any more; then the ring is unmapped."""
        await self._end.wait_ended()
        await self._loans.wait_back()
        await self._end.close()


def _span(ring: SharedRing, slot: int, num_bytes: int) -> memoryview:
    return ring.slot(slot)[:num_bytes]
