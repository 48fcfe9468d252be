"""The receiving end: takes announced frames in order, and lends their slots to whoever verifies and lands the bytes."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from common.core.errors import Reason, Refused, TransferFailed
from common.kv.span import Span
from common.transfer.messages import Pair
from common.transfer.same_host.copying import copy_bytes
from common.transfer.same_host.line import Line, Word, WordKind
from common.transfer.same_host.ring import SharedRing, Stamp


@dataclass(frozen=True, slots=True)
class _Post:
    """A receive that waits for its frame."""

    num_bytes: int
    came: "asyncio.Future[Word]"


class ReceivingEnd:
    """Writer: the event loop. A slot is read in place between `reserve` and the berth's `release`."""

    def __init__(self, ring: SharedRing, line: Line) -> None:
        self._ring = ring
        self._line = line
        self._loop = asyncio.get_running_loop()
        self._berths = asyncio.Semaphore(ring.num_slots)
        self._posted: dict[int, _Post] = {}
        self._waiting: dict[int, Word] = {}
        self._lent: dict[int, Word] = {}
        self._generations = [0] * ring.num_slots
        self._last_frame = -1
        line.listen(self._hear)

    @property
    def pair(self) -> Pair:
        return self._line.pair

    async def reserve(self, *, timeout_s: float) -> "SlotBerth":
        """The right to one slot of the ring. Raises Refused while all of them are still being landed."""
        await self.wait_berth(timeout_s=timeout_s)
        return SlotBerth(self)

    async def wait_berth(self, *, timeout_s: float) -> None:
        """One more slot is spoken for, until `leave_berth`. Raises Refused."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._berths.acquire()
        except TimeoutError:
            message = f"{self.pair}: all {self._ring.num_slots} slots are still being landed"
            raise Refused(message=message, reason=Reason.MEMORY_PRESSURE) from None

    async def send(self, frame: int, data: memoryview, *, timeout_s: float) -> None:
        raise AssertionError(f"{self.pair}: this end receives")

    async def receive(self, frame: int, out: memoryview, *, timeout_s: float) -> None:
        word = await self.take(frame, len(out), timeout_s=timeout_s)
        try:
            await copy_bytes(out, self.bytes_of(word))
        finally:
            self.give_back(word)

    async def take(self, frame: int, num_bytes: int, *, timeout_s: float) -> Word:
        """The frame's slot, lent until `give_back`. Raises TransferFailed; the channel is dead then."""
        self._line.check()
        assert frame not in self._posted, f"{self.pair}: frame {frame} is awaited twice"
        post = self._posted[frame] = _Post(num_bytes, self._loop.create_future())
        try:
            if (early := self._waiting.pop(frame, None)) is not None:
                self._match(early, post)
            async with asyncio.timeout(timeout_s):
                return await self._line.wait(post.came)
        except TimeoutError:
            self._line.end(f"frame {frame} did not come in {timeout_s} s")
            message = f"{self.pair}: frame {frame} did not come in {timeout_s} s"
            raise TransferFailed(message=message, reason=Reason.TRANSFER_TIMEOUT) from None
        except asyncio.CancelledError:
            self._line.end(f"receiving frame {frame} was cancelled")
            raise
        except TransferFailed as error:
            self._line.end(error.message)
            raise
        finally:
            self._posted.pop(frame, None)

    def bytes_of(self, word: Word) -> memoryview:
        return self._ring.slot(word.slot)[: word.num_bytes]

    def give_back(self, word: Word) -> None:
        """The slot may be filled again. After the end of the pair nobody will."""
        assert self._lent.get(word.slot) == word, f"{self.pair}: slot {word.slot} came back twice"
        del self._lent[word.slot]
        released = Word(
            kind=WordKind.RELEASED, slot=word.slot, generation=word.generation, frame=word.frame, num_bytes=0
        )
        # Whoever gives back has landed its bytes: that the pair has ended meanwhile is no failure of theirs.
        with suppress(TransferFailed):
            self._line.say(released)
        if self._line.is_ended and not self._lent:
            self._ring.close()

    def leave_berth(self) -> None:
        self._berths.release()

    async def close(self) -> None:
        """Slots that are lent stay readable until they come back; the memory ends with the last of them."""
        self._line.end("closed here")
        self._ring.close()

    def _hear(self, word: Word) -> None:
        self._check(word)
        self._generations[word.slot] = word.generation
        self._last_frame = word.frame
        if (post := self._posted.get(word.frame)) is None:
            self._waiting[word.frame] = word
        else:
            self._match(word, post)

    def _match(self, word: Word, post: _Post) -> None:
        if word.num_bytes != post.num_bytes:
            message = f"frame {word.frame} has {word.num_bytes} bytes, agreed were {post.num_bytes}"
            raise TransferFailed(message=message, reason=Reason.CHANNEL_BROKEN)
        if post.came.done():
            return  # its caller gave up; the line is about to end
        self._lent[word.slot] = word
        self._line.say(
            Word(kind=WordKind.TAKEN, slot=word.slot, generation=word.generation, frame=word.frame, num_bytes=0)
        )
        post.came.set_result(word)

    def _check(self, word: Word) -> None:
        """Everything the other end says is held against what this end knows. Raises TransferFailed."""
        is_ours = word.kind is WordKind.FULL and word.slot < self._ring.num_slots
        if not is_ours or word.num_bytes > self._ring.slot_bytes:
            raise TransferFailed(message=f"{word} fits no slot", reason=Reason.CHANNEL_BROKEN)
        is_busy = word.slot in self._lent or any(each.slot == word.slot for each in self._waiting.values())
        if is_busy or word.generation != self._generations[word.slot] + 1:
            raise TransferFailed(message=f"slot {word.slot} was filled out of turn", reason=Reason.CHANNEL_BROKEN)
        if word.frame <= self._last_frame:
            message = f"frame {word.frame} comes after {self._last_frame}"
            raise TransferFailed(message=message, reason=Reason.CHANNEL_BROKEN)
        stamp = Stamp(generation=word.generation, frame=word.frame, num_bytes=word.num_bytes)
        if self._ring.stamp_of(word.slot) != stamp:
            raise TransferFailed(message=f"slot {word.slot} bears another stamp", reason=Reason.CHANNEL_BROKEN)


class SlotLender(Protocol):
    """A receiving end, wherever its slots lie."""

    async def take(self, frame: int, num_bytes: int, *, timeout_s: float) -> Word: ...

    def bytes_of(self, word: Word) -> Span: ...

    def give_back(self, word: Word) -> None: ...

    def leave_berth(self) -> None: ...


class SlotBerth:
    """Room for one frame, which stays in the ring until it has landed. The memory lives as long as its view."""

    def __init__(self, end: SlotLender) -> None:
        self._end = end
        self._word: Word | None = None
        self._view: Span | None = None
        self._is_over = False

    @property
    def view(self) -> Span:
        assert self._view is not None, "no frame has come, or it went back"
        return self._view

    async def receive(self, frame: int, num_bytes: int, *, timeout_s: float) -> None:
        self._word = await self._end.take(frame, num_bytes, timeout_s=timeout_s)
        self._view = self._end.bytes_of(self._word)

    def release(self) -> None:
        """Once, on the event loop."""
        assert not self._is_over, "a berth was given back twice"
        self._is_over, self._view = True, None
        if self._word is not None:
            self._end.give_back(self._word)
        self._end.leave_berth()
