"""Production's rings of shared memory between simulated processes: only the socket beside them is ours.

Words come in order, late where frames are slow; where frames vanish, the process at the other end hangs: from one word
on it says nothing more. Bits of a slot flip where bits of frames do. Who is killed has its sockets closed.
"""

import asyncio
import os
import socket
from contextvars import Context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast
from weakref import ref

from common.core.errors import Reason, TransferFailed
from common.core.ids import WorkerRef
from common.transfer.channel import Channel, Side
from common.transfer.loopback import LoopbackNetwork
from common.transfer.messages import HostFacts, Pair
from common.transfer.rendezvous import RendezvousStore
from common.transfer.same_host.lending import HostSendingEnd
from common.transfer.same_host.line import WORD, Line, WordKind
from common.transfer.same_host.receiving import ReceivingEnd
from common.transfer.same_host.ring import SharedRing, adopt_ring, create_ring
from common.transfer.same_host.sending import SendingEnd
from tests.sim.timeloop import TimeLoop

if TYPE_CHECKING:
    from mmap import mmap

INVITED, COMING = "rings/invited", "rings/coming"
TICK_S = 1e-9
"""Between two words, so that the loop keeps their order."""


@dataclass(eq=False, slots=True)
class _Socket:
    """One end of a connection, as a line uses it."""

    number: int
    carry: "_Carrier"
    peer: "_Socket | None" = None
    came: bytearray = field(default_factory=bytearray)
    is_closed: bool = False
    hears_end: bool = False
    is_mute: bool = False
    """Nothing that it says is heard any more."""
    quiet_until: float = 0.0
    """When the last thing that it said arrives."""

    def fileno(self) -> int:
        return self.number

    def send(self, data: bytes) -> int:
        if self.is_closed or self.hears_end:
            raise BrokenPipeError(32, "Broken pipe")
        self.carry(self, data)
        return len(data)

    def recv(self, most: int) -> bytes:
        if self.came:
            data = bytes(self.came[:most])
            del self.came[:most]
            return data
        if self.hears_end:
            return b""
        raise BlockingIOError

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.carry(self, b"")


class _Carrier:
    """What is between the two sockets of a pair."""

    def __init__(self, loop: TimeLoop, frames: LoopbackNetwork, pair: Pair, ring: SharedRing) -> None:
        self._loop = loop
        self._frames = frames
        self._pair = pair
        self._ring = ref(ring)

    def __call__(self, source: _Socket, data: bytes) -> None:
        """No bytes: it was closed, which the system says for whoever hangs."""
        if data:
            source.is_mute = source.is_mute or self._frames.is_lost(self._pair)
            if source.is_mute:
                return
            self._spoil(data)
        at = max(source.quiet_until + TICK_S, self._loop.time() + self._frames.seconds(0))
        source.quiet_until = at
        self._loop.call_at(at, self._arrive, source.peer, data, context=Context())

    def _arrive(self, at: _Socket, data: bytes) -> None:
        if at.is_closed:
            return
        at.came += data
        at.hears_end |= not data
        self._loop.wake_reader(at.number)

    def _spoil(self, word: bytes) -> None:
        kind, slot, _, _, num_bytes = WORD.unpack(word)
        ring = self._ring()
        if kind == WordKind.FULL and ring is not None and ring._mapping is not None:
            data = ring.slot(slot)[:num_bytes]
            self._frames.deliver(memoryview(bytes(data)), data)


@dataclass(eq=False, slots=True)
class _Meeting:
    """One pair: its ring, and how the descriptor gets from one end to the other."""

    descriptor: int
    sockets: dict[Side, _Socket]
    handed: "asyncio.Future[None]"


class SimRings:
    """The factory of both ends, for all processes of a world. Writer: the loop."""

    name = "same_host"
    max_pairs: int | None = None

    def __init__(self, loop: TimeLoop, frames: LoopbackNetwork, *, num_slots: int, slot_bytes: int) -> None:
        """`frames`: what happens to them, and by which chance."""
        self._loop = loop
        self._frames = frames
        self._num_slots = num_slots
        self._slot_bytes = slot_bytes
        self._meetings: dict[Pair, _Meeting] = {}
        self._mapped: list[tuple[WorkerRef, ref[mmap]]] = []

    def misfit(self, there: HostFacts | None) -> str:
        return ""

    def num_mapped(self, worker: WorkerRef) -> int:
        """Rings that this incarnation has not unmapped: nobody looks for garbage on the way here."""
        found = (mapped() for owner, mapped in self._mapped if owner == worker)
        return sum(memory is not None and not memory.closed for memory in found)

    def kill(self, worker: WorkerRef) -> None:
        """The system closes the sockets of who is gone."""
        for pair, meeting in self._meetings.items():
            for side, owner in ((Side.SENDER, pair.sender), (Side.RECEIVER, pair.receiver)):
                if owner == worker:
                    meeting.sockets[side].close()

    def close(self) -> None:
        for meeting in self._meetings.values():
            os.close(meeting.descriptor)
        self._meetings.clear()

    async def open(self, pair: Pair, side: Side, store: RendezvousStore, *, timeout_s: float) -> Channel:
        is_open = False
        try:
            async with asyncio.timeout(timeout_s):
                end = await (self._invite if side is Side.RECEIVER else self._join)(pair, store, timeout_s)
            is_open = True
        except TimeoutError:
            message = f"{pair} did not open within {timeout_s} s"
            raise TransferFailed(message=message, reason=Reason.TRANSFER_TIMEOUT) from None
        else:
            return end
        finally:
            if not is_open and pair in self._meetings:
                self._meetings[pair].sockets[side].close()

    async def _invite(self, pair: Pair, store: RendezvousStore, timeout_s: float) -> Channel:
        ring, descriptor = create_ring(pair, num_slots=self._num_slots, slot_bytes=self._slot_bytes)
        meeting = self._meetings[pair] = self._meet(pair, ring, descriptor)
        is_met = False
        try:
            await store.put(INVITED, b"")
            is_met = await store.get(COMING, wait_s=timeout_s) is not None
        finally:
            if not is_met:
                ring.close()
        if not is_met:
            raise TimeoutError
        meeting.handed.set_result(None)
        self._mapped.append((pair.receiver, ref(ring._memory)))
        return ReceivingEnd(ring, _line(meeting, Side.RECEIVER, pair))

    async def _join(self, pair: Pair, store: RendezvousStore, timeout_s: float) -> Channel:
        if await store.get(INVITED, wait_s=timeout_s) is None:
            raise TimeoutError
        meeting = self._meetings[pair]
        await store.put(COMING, b"")
        await asyncio.shield(meeting.handed)
        ring = adopt_ring(meeting.descriptor, pair, num_slots=self._num_slots, slot_bytes=self._slot_bytes)
        self._mapped.append((pair.sender, ref(ring._memory)))
        return HostSendingEnd(SendingEnd(ring, _line(meeting, Side.SENDER, pair)))

    def _meet(self, pair: Pair, ring: SharedRing, descriptor: int) -> _Meeting:
        carry = _Carrier(self._loop, self._frames, pair, ring)
        sockets = {side: _Socket(next(self._loop.descriptors), carry) for side in Side}
        sockets[Side.SENDER].peer, sockets[Side.RECEIVER].peer = sockets[Side.RECEIVER], sockets[Side.SENDER]
        return _Meeting(descriptor, sockets, self._loop.create_future())


def _line(meeting: _Meeting, side: Side, pair: Pair) -> Line:
    return Line(cast(socket.socket, meeting.sockets[side]), pair)
