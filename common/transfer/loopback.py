"""A channel inside one process, with faults on demand. For tests and virtual time: asyncio, a clock and entropy only.

It keeps the manners of the real one: a send waits for its receive, a missed deadline kills the channel, a closed end is
noticed by the other, and two ends that disagree about a frame's size are a bug.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, TypeVar

from common.core.entropy import Entropy
from common.core.errors import Reason, TransferFailed
from common.core.ids import WorkerId
from common.transfer.channel import Channel, Side
from common.transfer.messages import HostFacts, Pair
from common.transfer.rendezvous import RendezvousStore

Value = TypeVar("Value")

CHANCE_BITS = 32


@dataclass(slots=True, kw_only=True)
class LoopbackFaults:
    """What may happen to a frame. Probabilities from 0 to 1, seconds for the rest. Tests change them as they go."""

    delay_s: float = 0.0
    """Every frame takes a uniform time from 0 to this."""
    bytes_per_s: float = 0.0
    """Above 0: time in proportion to the size is added."""
    drop: float = 0.0
    """The frame never arrives: both ends run into their deadline."""
    flip: float = 0.0
    """One bit differs on arrival."""
    duplicate: float = 0.0
    """The frame arrives twice: the second copy belongs to no receive and is discarded."""
    cut: set[tuple[WorkerId, WorkerId]] = field(default_factory=set)
    """Black holes, one way: frames from the first worker to the second vanish."""
    stalled: bool = False
    """Nothing arrives for anybody while this is set."""


class LoopbackNetwork:
    """All loopback pairs of one process; the factory of both ends. Writer: the event loop."""

    name = "loopback"
    max_pairs: int | None = None

    def __init__(self, entropy: Entropy, faults: LoopbackFaults | None = None) -> None:
        self.faults = faults or LoopbackFaults()
        self.incidents: Counter[str] = Counter()
        self._entropy = entropy
        self._wires: dict[int, _Wire] = {}

    def misfit(self, there: HostFacts | None) -> str:
        return ""

    async def open(self, pair: Pair, side: Side, store: RendezvousStore, *, timeout_s: float) -> Channel:
        """Meets the other end in the store, as every channel does, so that a broken control plane is felt here too."""
        wire = self._wires.setdefault(pair.nonce, _Wire(pair))
        other = Side.RECEIVER if side is Side.SENDER else Side.SENDER
        is_met = False
        try:
            async with asyncio.timeout(timeout_s):
                await store.put(f"loopback/{side}", b"here")
                is_met = await store.get(f"loopback/{other}", wait_s=timeout_s) is not None
        except TimeoutError:
            is_met = False
        finally:
            if not is_met:
                self.discard(wire)
        if not is_met or wire.is_closed:
            raise TransferFailed(message=f"{pair}: the other end did not open", reason=Reason.TRANSFER_TIMEOUT)
        return LoopbackChannel(wire, self)

    def kill(self, worker: WorkerId) -> None:
        """The process is gone: every pair it took part in breaks."""
        for wire in tuple(self._wires.values()):
            if worker in (wire.pair.sender.worker, wire.pair.receiver.worker):
                self.discard(wire)

    def break_off(self, wire: "_Wire") -> None:
        """An end closed. The other hears of it as it would of a closed socket: not through a black hole."""
        if self.faults.stalled or self._route(wire.pair) in self.faults.cut:
            self._wires.pop(wire.pair.nonce, None)
        else:
            self.discard(wire)

    def discard(self, wire: "_Wire") -> None:
        wire.close()
        self._wires.pop(wire.pair.nonce, None)

    def is_lost(self, pair: Pair) -> bool:
        """Does this frame vanish?"""
        if self.faults.stalled or self._route(pair) in self.faults.cut or self._happens(self.faults.drop):
            self.incidents["dropped"] += 1
            return True
        return False

    def seconds(self, num_bytes: int) -> float:
        """How long this frame travels."""
        faults = self.faults
        travel = num_bytes / faults.bytes_per_s if faults.bytes_per_s > 0 else 0.0
        return travel + faults.delay_s * self._chance()

    def deliver(self, data: memoryview, out: memoryview) -> None:
        """Copies a frame, with what happens to it on the way."""
        out[:] = data
        if self._happens(self.faults.flip):
            self.incidents["flipped"] += 1
            bit = self._entropy.bits(64) % (len(out) * 8)
            out[bit // 8] ^= 1 << (bit % 8)
        if self._happens(self.faults.duplicate):
            self.incidents["duplicated"] += 1

    def _route(self, pair: Pair) -> tuple[WorkerId, WorkerId]:
        return pair.sender.worker, pair.receiver.worker

    def _happens(self, probability: float) -> bool:
        return probability > 0 and self._chance() < probability

    def _chance(self) -> float:
        return self._entropy.bits(CHANCE_BITS) / (1 << CHANCE_BITS)


class _Wire:
    """What both ends of a pair share: receives that wait for their frame, and the news that it is over."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.is_closed = False
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._posted: dict[int, asyncio.Future[_Receive]] = {}

    def posted(self, frame: int) -> "asyncio.Future[_Receive]":
        """Resolved by the receiver, awaited by the sender, whoever comes first."""
        if frame not in self._posted:
            self._posted[frame] = asyncio.get_running_loop().create_future()
        return self._posted[frame]

    def forget(self, frame: int) -> None:
        self._posted.pop(frame, None)

    def close(self) -> None:
        self.is_closed = True
        if not self.broken.done():
            self.broken.set_result(None)

    async def wait(self, what: "asyncio.Future[Value]", *, timeout_s: float) -> "Value":
        """The future's value. Raises TransferFailed once the wire is closed, or at the deadline."""
        if not self.is_closed:
            either: set[asyncio.Future[Any]] = {what, self.broken}
            await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if what.done():
            return what.result()
        if self.is_closed:
            raise TransferFailed(message=f"{self.pair} is closed", reason=Reason.CHANNEL_BROKEN)
        raise TransferFailed(message=f"{self.pair}: nothing after {timeout_s} s", reason=Reason.TRANSFER_TIMEOUT)


@dataclass(frozen=True, slots=True)
class _Receive:
    """A posted receive."""

    out: memoryview
    done: "asyncio.Future[None]"


class LoopbackChannel:
    """One end of a wire. Cancelling a call abandons its frame, and so breaks the wire."""

    def __init__(self, wire: _Wire, network: LoopbackNetwork) -> None:
        self._wire = wire
        self._network = network

    async def send(self, frame: int, data: memoryview, *, timeout_s: float) -> None:
        wire, network = self._wire, self._network
        is_through = False
        try:
            async with asyncio.timeout(timeout_s):
                receive = await wire.wait(wire.posted(frame), timeout_s=timeout_s)
                if network.is_lost(wire.pair):
                    await wire.wait(asyncio.get_running_loop().create_future(), timeout_s=timeout_s)
                await asyncio.sleep(network.seconds(len(data)))
            if wire.is_closed or receive.done.done():
                raise TransferFailed(message=f"{wire.pair} closed under frame {frame}", reason=Reason.CHANNEL_BROKEN)
            assert len(data) == len(receive.out), f"frame {frame}: {len(data)} bytes for {len(receive.out)}"
            network.deliver(data, receive.out)
            receive.done.set_result(None)
            is_through = True
        except TimeoutError:
            message = f"{wire.pair}: frame {frame} took over {timeout_s} s"
            raise TransferFailed(message=message, reason=Reason.TRANSFER_TIMEOUT) from None
        finally:
            wire.forget(frame)
            if not is_through:
                network.break_off(wire)

    async def receive(self, frame: int, out: memoryview, *, timeout_s: float) -> None:
        wire = self._wire
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        posted = wire.posted(frame)
        if posted.done():
            raise TransferFailed(message=f"{wire.pair}: frame {frame} posted twice", reason=Reason.CHANNEL_BROKEN)
        posted.set_result(_Receive(out=out, done=done))
        try:
            await wire.wait(done, timeout_s=timeout_s)
        finally:
            if not done.done():
                done.cancel()  # from here on nobody touches `out`
                self._network.discard(wire)

    async def close(self) -> None:
        self._network.break_off(self._wire)
