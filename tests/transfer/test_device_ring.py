"""Slots in device memory, over a runtime that keeps its device memory here. Not run: the CUDA runtime itself."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from common.core.entropy import SystemEntropy
from common.core.errors import Reason, TransferFailed
from common.kv.span import DeviceSpan
from common.transfer.channel import Side
from common.transfer.host import read_host
from common.transfer.rendezvous import PairStore
from common.transfer.same_host.cudart import IPC_HANDLE_BYTES, CudaRuntime
from common.transfer.same_host.device import DeviceReceivingEnd, DeviceSendingEnd
from common.transfer.same_host.factory import SameHostFactory
from tests.transfer.test_channel_conformance import make_pair

SLOTS, SLOT_BYTES = 2, 1000


class Card:
    """One device's memory, as all processes see it, and who maps what."""

    def __init__(self) -> None:
        self.memory: dict[int, bytearray] = {}
        self.mapped: dict[int, int] = {}

    def find(self, address: int) -> tuple[bytearray, int]:
        for start, memory in self.memory.items():
            if start <= address < start + len(memory):
                return memory, address - start
        raise TransferFailed(message=f"no memory at {address}", reason=Reason.CHANNEL_BROKEN)


class FakeRuntime:
    """One process's view. Its rule is CUDA's: what is mapped elsewhere must not be freed."""

    bus_id = b"0000:01:00.0"

    def __init__(self, card: Card) -> None:
        self._card = card

    def allocate(self, num_bytes: int) -> int:
        address = (len(self._card.memory) + 1) << 32
        self._card.memory[address] = bytearray(num_bytes)
        return address

    def free(self, address: int) -> None:
        assert not self._card.mapped.get(address), "freed while it is mapped"
        del self._card.memory[address]

    def export(self, address: int) -> bytes:
        return address.to_bytes(IPC_HANDLE_BYTES, "little")

    def open(self, handle: bytes) -> int:
        address = int.from_bytes(handle, "little")
        self._card.mapped[address] = self._card.mapped.get(address, 0) + 1
        return address

    def close(self, address: int) -> None:
        self._card.mapped[address] -= 1

    def copy(self, into: int, source: int, num_bytes: int) -> None:
        (target, start), (data, begin) = self._card.find(into), self._card.find(source)
        target[start : start + num_bytes] = data[begin : begin + num_bytes]


@asynccontextmanager
async def paired(card: Card) -> AsyncIterator[tuple[DeviceSendingEnd, DeviceReceivingEnd]]:
    host = read_host()
    assert host is not None
    factory = SameHostFactory(host, num_slots=SLOTS, slot_bytes=SLOT_BYTES, entropy=SystemEntropy())
    pair, store = make_pair(), PairStore()
    sender, receiver = await asyncio.gather(
        factory.open_device(pair, Side.SENDER, store, FakeRuntime(card), timeout_s=3.0),
        factory.open_device(pair, Side.RECEIVER, store, FakeRuntime(card), timeout_s=3.0),
    )
    assert isinstance(sender, DeviceSendingEnd)
    assert isinstance(receiver, DeviceReceivingEnd)
    yield sender, receiver


def filled(card: Card, data: bytes) -> DeviceSpan:
    address = FakeRuntime(card).allocate(len(data))
    card.memory[address][:] = data
    return DeviceSpan(address=address, num_bytes=len(data), device=0)


async def test_frames_pass_from_device_memory_to_device_memory() -> None:
    card = Card()
    async with paired(card) as (sender, receiver):
        for frame in range(2 * SLOTS + 1):
            data = os.urandom(SLOT_BYTES - frame)
            source, target = filled(card, data), filled(card, bytes(len(data)))
            await asyncio.gather(
                sender.send_device(frame, source, timeout_s=1.0), receiver.receive_device(frame, target, timeout_s=1.0)
            )
            assert bytes(card.memory[target.address]) == data
        await sender.close()
        await asyncio.sleep(0.05)  # the receiver hears that its memory is mapped no more
        count = len(card.memory)
        await receiver.close()
        assert len(card.memory) == count - 1
        assert receiver.abandoned_bytes == 0


async def test_memory_that_the_sender_may_still_map_is_kept_and_counted() -> None:
    card = Card()
    async with paired(card) as (sender, receiver):
        await receiver.close()
        assert receiver.abandoned_bytes == SLOTS * 1024
        with pytest.raises(TransferFailed):
            await sender.send_device(0, filled(card, b"page"), timeout_s=1.0)
        await sender.close()
        assert sum(card.mapped.values()) == 0


async def test_host_memory_and_device_memory_do_not_meet() -> None:
    host = read_host()
    assert host is not None
    factory = SameHostFactory(host, num_slots=SLOTS, slot_bytes=SLOT_BYTES, entropy=SystemEntropy())
    card, pair, store = Card(), make_pair(), PairStore()
    results = await asyncio.gather(
        factory.open(pair, Side.SENDER, store, timeout_s=0.3),
        factory.open_device(pair, Side.RECEIVER, store, FakeRuntime(card), timeout_s=0.3),
        return_exceptions=True,
    )
    assert all(isinstance(result, TransferFailed) for result in results)
    assert card.memory == {}


def test_without_a_runtime_it_says_so() -> None:
    with pytest.raises((TransferFailed, OSError)):
        CudaRuntime(0, library="libcudart-that-is-not-there.so")
