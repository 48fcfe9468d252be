"""The sending end: finds a free slot, fills it, says so, and waits until the frame was taken."""

import asyncio
import heapq
import threading
from collections.abc import Awaitable, Callable

from common.core.errors import Reason, TransferFailed
from common.transfer.messages import Pair
from common.transfer.same_host.copying import copy_bytes
from common.transfer.same_host.line import Line, Word, WordKind
from common.transfer.same_host.ring import SharedRing, Stamp

Fill = Callable[[int], Awaitable[None]]
"""Puts a frame's bytes into the slot of this number; once it returns, its source is free."""


class SendingEnd:
    """Writer: the event loop. `send` copies once, from the caller's buffer into the ring, and gives the buffer back."""

    def __init__(self, ring: SharedRing, line: Line) -> None:
        self._ring = ring
        self._line = line
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        # The lowest first: a pair with little to do touches, and so takes, little memory.
        self._free = list(range(ring.num_slots))
        self._lock = threading.Lock()  # of the free slots: whoever borrows one may be another thread
        self._generations = [0] * ring.num_slots
        self._out: dict[int, tuple[Word, asyncio.Future[None]]] = {}
        self._freed: asyncio.Future[None] = self._loop.create_future()
        line.listen(self._hear)

    @property
    def ring(self) -> SharedRing:
        return self._ring

    @property
    def pair(self) -> Pair:
        return self._line.pair

    def check(self) -> None:
        """Raises TransferFailed when the pair is over."""
        self._line.check()

    async def wait_ended(self) -> None:
        """Until the pair is over, for whatever reason."""
        await self._line.wait_ended()

    async def send(self, frame: int, data: memoryview, *, timeout_s: float) -> None:
        async def fill(slot: int) -> None:
            await copy_bytes(self._ring.slot(slot)[: len(data)], data)

        await self.send_filled(frame, len(data), fill, timeout_s=timeout_s)

    def take_slot(self) -> int | None:
        """A free slot for `send_filled`, or for `put_back`; None while there is none, or when the pair is over. Any
        thread."""
        with self._lock:
            return heapq.heappop(self._free) if self._free and not self._line.is_ended else None

    def put_back(self, slot: int) -> None:
        """It was taken, and is not sent."""
        with self._lock:
            heapq.heappush(self._free, slot)
        if not self._freed.done():
            self._freed.set_result(None)

    async def send_filled(
        self, frame: int, num_bytes: int, fill: Fill, *, timeout_s: float, slot: int | None = None
    ) -> None:
        """A frame whose bytes `fill` puts into a slot, wherever slots lie: into `slot`, which was taken, or any. From
        the moment that `fill` returns it is the receiver's."""
        self._line.check()
        if num_bytes > self._ring.slot_bytes:
            message = f"{self.pair}: frame {frame} of {num_bytes} bytes exceeds a slot of {self._ring.slot_bytes}"
            self._line.end(message)
            raise TransferFailed(message=message, reason=Reason.CHANNEL_BROKEN)
        try:
            async with asyncio.timeout(timeout_s):
                async with self._turn:
                    taken = await self._put(frame, num_bytes, fill, slot)
                await self._line.wait(taken)
        except TimeoutError:
            self._line.end(f"frame {frame} was not taken in {timeout_s} s")
            message = f"{self.pair}: frame {frame} was not taken in {timeout_s} s"
            raise TransferFailed(message=message, reason=Reason.TRANSFER_TIMEOUT) from None
        except asyncio.CancelledError:
            self._line.end(f"sending frame {frame} was cancelled")
            raise

    async def receive(self, frame: int, out: memoryview, *, timeout_s: float) -> None:
        raise AssertionError(f"{self.pair}: this end sends")

    def hang_up(self) -> None:
        """The pair is over; the ring is still mapped. Idempotent."""
        self._line.end("closed here")

    async def close(self) -> None:
        """A copy that is under way ends by itself, into memory that nobody reads any more."""
        self.hang_up()
        self._ring.close()

    async def _put(self, frame: int, num_bytes: int, fill: Fill, slot: int | None) -> "asyncio.Future[None]":
        """Fills a slot and announces it; what is resolved when the frame was taken."""
        if slot is None:
            slot = await self._free_slot()
        await fill(slot)
        self._line.check()
        self._generations[slot] += 1
        generation = self._generations[slot]
        self._ring.stamp(slot, Stamp(generation=generation, frame=frame, num_bytes=num_bytes))
        word = Word(kind=WordKind.FULL, slot=slot, generation=generation, frame=frame, num_bytes=num_bytes)
        taken: asyncio.Future[None] = self._loop.create_future()
        self._out[slot] = (word, taken)
        self._line.say(word)
        return taken

    async def _free_slot(self) -> int:
        while (slot := self.take_slot()) is None:
            self._line.check()
            self._freed = self._loop.create_future()
            await self._line.wait(self._freed)
        return slot

    def _hear(self, word: Word) -> None:
        known = self._out.get(word.slot)
        if known is None or (known[0].generation, known[0].frame) != (word.generation, word.frame):
            raise TransferFailed(message=f"{word.kind.name} of a slot that is not out", reason=Reason.CHANNEL_BROKEN)
        taken = known[1]
        match word.kind:
            case WordKind.TAKEN:
                if not taken.done():
                    taken.set_result(None)
            case WordKind.RELEASED:
                if not taken.done():
                    raise TransferFailed(message="a slot came back untaken", reason=Reason.CHANNEL_BROKEN)
                del self._out[word.slot]
                self.put_back(word.slot)
            case WordKind.FULL:
                raise TransferFailed(message="the receiving end sends", reason=Reason.CHANNEL_BROKEN)
