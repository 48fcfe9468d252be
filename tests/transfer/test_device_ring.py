"""Slots in device memory, over a runtime that keeps its device memory here. Not run: the CUDA runtime itself."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from common.core.entropy import SystemEntropy
from common.core.errors import Refused, TransferFailed
from common.kv.span import DeviceSpan
from common.transfer.channel import Berth, Side
from common.transfer.device import DeviceChannel, SlotChannel
from common.transfer.host import read_host
from common.transfer.rendezvous import PairStore
from common.transfer.same_host.cuda_ipc import CudaIpcFactory
from common.transfer.same_host.cudart import CudaRuntime, loaded_library
from common.transfer.same_host.device import DeviceReceivingEnd, DeviceSendingEnd
from common.transfer.same_host.factory import SameHostFactory
from tests.transfer.fake_card import Card, FakeRuntime, card_factory
from tests.transfer.test_channel_conformance import count_files, make_pair

SLOTS, SLOT_BYTES = 2, 1000
RING_BYTES = SLOTS * 1024


def small(card: Card, max_pairs: int = 4) -> CudaIpcFactory:
    return card_factory(card, num_slots=SLOTS, slot_bytes=SLOT_BYTES, max_pairs=max_pairs)


@asynccontextmanager
async def paired(factory: CudaIpcFactory) -> AsyncIterator[tuple[DeviceSendingEnd, DeviceReceivingEnd]]:
    pair, store = make_pair(), PairStore()
    sender, receiver = await asyncio.gather(
        factory.open(pair, Side.SENDER, store, timeout_s=3.0), factory.open(pair, Side.RECEIVER, store, timeout_s=3.0)
    )
    assert isinstance(sender, DeviceSendingEnd)
    assert isinstance(receiver, DeviceReceivingEnd)
    try:
        yield sender, receiver
    finally:
        await sender.close()
        await receiver.close()


def filled(card: Card, data: bytes) -> DeviceSpan:
    address = FakeRuntime(card).allocate(len(data))
    card.memory[address][:] = data
    return DeviceSpan(address=address, num_bytes=len(data), device=0)


async def test_frames_pass_from_device_memory_to_device_memory() -> None:
    card = Card()
    async with paired(small(card)) as (sender, receiver):
        assert isinstance(sender, DeviceChannel)
        assert isinstance(receiver, DeviceChannel)
        for frame in range(2 * SLOTS + 1):
            data = os.urandom(SLOT_BYTES - frame)
            source, target = filled(card, data), filled(card, bytes(len(data)))
            await asyncio.gather(
                sender.send_device(frame, source, timeout_s=1.0), receiver.receive_device(frame, target, timeout_s=1.0)
            )
            assert bytes(card.memory[target.address]) == data


def lent(card: Card, berth: Berth) -> bytes:
    """What whoever verifies and lands reads, where it lies."""
    assert isinstance(berth.view, DeviceSpan)
    memory, start = card.find(berth.view.address)
    return bytes(memory[start : start + len(berth.view)])


async def test_slots_are_lent_and_not_written_over_until_they_come_back() -> None:
    card = Card()
    async with paired(small(card)) as (sender, receiver):
        berths = [await receiver.reserve(timeout_s=1.0) for _ in range(SLOTS)]
        for frame, berth in enumerate(berths):
            data = filled(card, bytes([frame + 1]) * 100)
            await asyncio.gather(
                sender.send_device(frame, data, timeout_s=1.0), berth.receive(frame, 100, timeout_s=1.0)
            )
        with pytest.raises(Refused):
            await receiver.reserve(timeout_s=0.05)
        assert [lent(card, berth) for berth in berths] == [b"\1" * 100, b"\2" * 100]
        berths[0].release()
        third = await receiver.reserve(timeout_s=1.0)
        await asyncio.gather(
            sender.send_device(2, filled(card, b"c" * 100), timeout_s=1.0), third.receive(2, 100, timeout_s=1.0)
        )
        assert [lent(card, berth) for berth in (berths[1], third)] == [b"\2" * 100, b"c" * 100]
        berths[1].release()
        third.release()


async def test_slots_lie_on_the_device_that_they_were_taken_from() -> None:
    card = Card()
    async with paired(small(card)) as (sender, receiver):
        berth = await receiver.reserve(timeout_s=1.0)
        await asyncio.gather(
            sender.send_device(0, filled(card, b"x" * 100), timeout_s=1.0), berth.receive(0, 100, timeout_s=1.0)
        )
        assert isinstance(berth.view, DeviceSpan)
        assert berth.view.device == FakeRuntime.device == 1
        berth.release()


async def test_a_receiver_closes_in_time_whatever_its_device_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """To free memory may wait for a step, or hang with it: the process that leaves does not."""
    hangs = threading.Event()
    monkeypatch.setattr("common.transfer.same_host.device.RELEASE_S", 0.1)
    monkeypatch.setattr(FakeRuntime, "free", lambda *_: hangs.wait(10))
    async with paired(small(Card())) as (sender, receiver):
        await sender.close()
        await receiver.close()
        while receiver._freeing is None:  # the sender's grip is heard of in a turn of the loop
            await asyncio.sleep(0)
        async with asyncio.timeout(2.0):
            await receiver.close()
    hangs.set()


async def took(berth: Berth, frame: int, num_bytes: int) -> None:
    await berth.receive(frame, num_bytes, timeout_s=1.0)


async def test_what_is_made_in_a_lent_slot_is_sent_without_a_copy() -> None:
    card = Card(breaks={"copy"})
    async with paired(small(card)) as (sender, receiver):
        assert isinstance(sender, SlotChannel)
        for frame in range(3):
            loan = sender.lend_slot(100)
            assert loan is not None
            assert sender.lend_slot(100) is None, "half of the slots are for frames that are copied"
            memory, start = card.find(loan.view.address)
            memory[start : start + 100] = bytes([frame + 1]) * 100
            berth = await receiver.reserve(timeout_s=1.0)
            await asyncio.gather(sender.send_device(frame, loan.view, timeout_s=1.0), took(berth, frame, 100))
            assert lent(card, berth) == bytes([frame + 1]) * 100
            berth.release()
            loan.give_back()


async def test_a_slot_that_was_sent_is_lent_again_while_its_first_holder_lingers() -> None:
    card = Card(breaks={"copy"})
    async with paired(card_factory(card, num_slots=4, slot_bytes=100)) as (sender, receiver):
        first = sender.lend_slot(100)
        assert first is not None
        berth = await receiver.reserve(timeout_s=1.0)
        await asyncio.gather(sender.send_device(0, first.view, timeout_s=1.0), took(berth, 0, 100))
        berth.release()
        async with asyncio.timeout(1.0):
            while (second := sender.lend_slot(100)) is not None and second.slot != first.slot:  # RELEASED is heard
                second.give_back()
                await asyncio.sleep(0)
        assert second is not None
        first.give_back()
        again = await receiver.reserve(timeout_s=1.0)
        await asyncio.gather(sender.send_device(1, second.view, timeout_s=1.0), took(again, 1, 100))
        again.release()
        second.give_back()


async def test_what_was_sent_from_a_lent_slot_is_copied_if_it_is_sent_again() -> None:
    """The slot is the receiver's by then: announced twice, it would be read under two frames."""
    card = Card()
    async with paired(small(card)) as (sender, receiver):
        loan = sender.lend_slot(100)
        assert loan is not None
        berths = [await receiver.reserve(timeout_s=1.0) for _ in range(SLOTS)]
        for frame, berth in enumerate(berths):
            await asyncio.gather(sender.send_device(frame, loan.view, timeout_s=1.0), took(berth, frame, 100))
        assert len({berth.view.address for berth in berths if isinstance(berth.view, DeviceSpan)}) == SLOTS
        for berth in berths:
            berth.release()
        loan.give_back()


async def test_a_lent_slot_that_is_not_sent_goes_to_another_frame() -> None:
    card = Card()
    async with paired(small(card)) as (sender, receiver):
        loan = sender.lend_slot(100)
        assert loan is not None
        loan.give_back()
        berths = [await receiver.reserve(timeout_s=1.0) for _ in range(SLOTS)]
        for frame, berth in enumerate(berths):
            await asyncio.gather(
                sender.send_device(frame, filled(card, b"x" * 100), timeout_s=1.0), took(berth, frame, 100)
            )
        for berth in berths:
            berth.release()


async def test_part_of_a_lent_slot_is_copied_like_any_memory() -> None:
    card = Card()
    async with paired(small(card)) as (sender, receiver):
        loan = sender.lend_slot(100)
        assert loan is not None
        memory, start = card.find(loan.view.address)
        memory[start : start + 100] = bytes(range(100))
        berth = await receiver.reserve(timeout_s=1.0)
        await asyncio.gather(sender.send_device(0, loan.view[:50], timeout_s=1.0), took(berth, 0, 50))
        assert lent(card, berth) == bytes(range(50))
        assert isinstance(berth.view, DeviceSpan)
        assert berth.view.address != loan.view.address
        berth.release()
        loan.give_back()


async def test_a_lent_slot_stays_mapped_until_it_comes_back() -> None:
    """Whoever fills it may have launched that, and may be waited for by whoever closes."""
    card = Card()
    async with paired(small(card)) as (sender, receiver):
        loan = sender.lend_slot(100)
        assert loan is not None
        async with asyncio.timeout(1.0):
            await sender.close()
        await receiver.close()
        await asyncio.sleep(0.05)
        assert sum(card.mapped.values()) == 1
        with pytest.raises(TransferFailed):
            await sender.send_device(0, loan.view, timeout_s=1.0)
        assert sender.lend_slot(100) is None
        loan.give_back()
        await card.wait_free()
    assert sum(card.mapped.values()) == 0


async def test_slots_of_another_gpu_are_copied_into_and_not_lent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel of this GPU would take the other's memory for its own."""
    names = iter([b"0000:01:00.0", b"0000:02:00.0"])
    monkeypatch.setattr(FakeRuntime, "bus_id", property(lambda _: next(names)))
    async with paired(small(Card())) as (sender, _):
        assert sender.lend_slot(100) is None


async def test_a_slot_that_is_being_landed_outlives_its_pair() -> None:
    card = Card()
    factory = small(card)
    async with paired(factory) as (sender, receiver):
        berth = await receiver.reserve(timeout_s=1.0)
        source = filled(card, b"page" * 25)
        await asyncio.gather(sender.send_device(0, source, timeout_s=1.0), berth.receive(0, 100, timeout_s=1.0))
        await sender.close()
        await receiver.close()
        await asyncio.sleep(0.05)  # the pair's end is known everywhere by then, and nothing may come of it
        assert lent(card, berth) == b"page" * 25
        assert factory.retained.num_bytes == RING_BYTES
        berth.release()
        await card.wait_free(num_left=1)  # the source
    assert factory.retained.num_bytes == 0


async def test_a_frame_that_came_as_the_pair_ended_can_still_be_read() -> None:
    """Whoever waits for it is woken after both ends are gone."""
    card = Card()
    async with paired(small(card)) as (sender, receiver):
        berth = await receiver.reserve(timeout_s=1.0)
        source = filled(card, b"page" * 25)
        receiving = asyncio.ensure_future(berth.receive(0, 100, timeout_s=1.0))
        await asyncio.gather(sender.send_device(0, source, timeout_s=1.0), return_exceptions=True)
        await asyncio.gather(sender.close(), receiver.close())
        await receiving
        assert lent(card, berth) == b"page" * 25
        berth.release()
        await card.wait_free(num_left=1)


@pytest.mark.parametrize("first", [Side.SENDER, Side.RECEIVER])
async def test_memory_is_freed_whichever_end_closes_first(first: Side) -> None:
    """The card asserts that nothing is freed while it is mapped."""
    card = Card()
    factory = small(card)
    async with paired(factory) as (sender, receiver):
        for end in (sender, receiver) if first is Side.SENDER else (receiver, sender):
            await end.close()
        await card.wait_free()
    assert factory.retained.num_bytes == 0
    assert sum(card.mapped.values()) == 0


async def test_an_idle_sender_lets_go_by_itself_when_its_receiver_is_gone() -> None:
    card = Card()
    async with paired(small(card)) as (_, receiver):
        await receiver.close()
        await card.wait_free()


async def test_what_a_sender_still_maps_is_kept_until_it_lets_go() -> None:
    """Its process hangs: it hears nothing. Then it ends, and the system closes its grip."""
    card = Card()
    factory = small(card)
    async with paired(factory) as (sender, receiver):
        async with sender._copying:  # what lets go waits for a copy
            await receiver.close()
            assert (factory.retained.num_bytes, len(card.memory)) == (RING_BYTES, 1)
        await card.wait_free()
        assert factory.retained.num_bytes == 0


async def test_memory_that_nobody_gives_back_has_a_ceiling() -> None:
    card = Card()
    factory = small(card, max_pairs=1)
    async with paired(factory) as (sender, receiver), sender._copying:
        await receiver.close()
        with pytest.raises(TransferFailed, match="still mapped by earlier senders"):
            await factory.open(make_pair(2), Side.RECEIVER, PairStore(), timeout_s=1.0)
    await card.wait_free()
    async with paired(factory):
        pass


@pytest.mark.parametrize("call", ["allocate", "export", "open"])
async def test_a_driver_that_refuses_fails_the_opening_and_leaves_nothing(call: str) -> None:
    card = Card(breaks={call})
    files, factory = count_files(), small(card)
    pair, store = make_pair(), PairStore()
    sending = asyncio.ensure_future(factory.open(pair, Side.SENDER, store, timeout_s=0.5))
    receiver = await asyncio.gather(factory.open(pair, Side.RECEIVER, store, timeout_s=0.5), return_exceptions=True)
    with pytest.raises(TransferFailed):
        await sending
    if isinstance(receiver[0], DeviceReceivingEnd):
        await receiver[0].close()
    await card.wait_free()
    assert count_files() == files


async def test_a_driver_that_hangs_is_given_up_and_cleaned_after_when_it_answers() -> None:
    card = Card(slow_s=0.4)
    factory, pair, store = small(card), make_pair(), PairStore()
    started = asyncio.get_running_loop().time()
    with pytest.raises(TransferFailed):
        await factory.open(pair, Side.RECEIVER, store, timeout_s=0.1)
    assert asyncio.get_running_loop().time() - started < 0.3
    await asyncio.sleep(0.4)
    await card.wait_free()


async def test_host_memory_and_device_memory_do_not_meet() -> None:
    host = read_host()
    assert host is not None
    shared = SameHostFactory(host, num_slots=SLOTS, slot_bytes=SLOT_BYTES, entropy=SystemEntropy())
    card, pair, store = Card(), make_pair(), PairStore()
    results = await asyncio.gather(
        shared.open(pair, Side.SENDER, store, timeout_s=0.3),
        small(card).open(pair, Side.RECEIVER, store, timeout_s=0.3),
        return_exceptions=True,
    )
    assert all(isinstance(result, TransferFailed) for result in results)
    await card.wait_free()


def test_without_a_runtime_it_says_so() -> None:
    with pytest.raises((TransferFailed, OSError)):
        CudaRuntime(0, library="libcudart-that-is-not-there.so")


def test_the_runtime_that_torch_brought_is_the_one_that_is_used() -> None:
    maps = (
        "7f00-7f01 r-xp 00000000 08:01 1  /usr/lib/libc.so.6\n"
        "7f02-7f03 r--p 00000000 08:01 2  /venv/a b/nvidia/cuda_runtime/lib/libcudart.so.12\n"
        "7f03-7f04 r-xp 00000000 08:01 2  /venv/a b/nvidia/cuda_runtime/lib/libcudart.so.12\n"
    )
    assert loaded_library(maps) == "/venv/a b/nvidia/cuda_runtime/lib/libcudart.so.12"
    assert loaded_library("7f00-7f01 rw-p 00000000 00:00 0\n") is None
