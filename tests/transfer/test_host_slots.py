"""Slots of a ring in the host's memory, lent to whoever gathers: frames are made where the other end reads them."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from common.core.entropy import SystemEntropy
from common.core.errors import TransferFailed
from common.kv.span import address_of
from common.transfer.channel import Side
from common.transfer.device import SlotChannel
from common.transfer.host import read_host
from common.transfer.rendezvous import PairStore
from common.transfer.same_host import sending
from common.transfer.same_host.factory import SameHostFactory
from common.transfer.same_host.lending import HostSendingEnd
from common.transfer.same_host.loans import SlotLoan
from common.transfer.same_host.receiving import ReceivingEnd
from tests.transfer.test_channel_conformance import make_pair

SLOTS, SLOT_BYTES = 4, 4096


@asynccontextmanager
async def paired() -> AsyncIterator[tuple[HostSendingEnd, ReceivingEnd]]:
    host = read_host()
    assert host is not None
    factory = SameHostFactory(host, num_slots=SLOTS, slot_bytes=SLOT_BYTES, entropy=SystemEntropy())
    pair, store = make_pair(), PairStore()
    receiver, sender = await asyncio.gather(
        *(factory.open(pair, side, store, timeout_s=2.0) for side in (Side.RECEIVER, Side.SENDER))
    )
    assert isinstance(sender, HostSendingEnd)
    assert isinstance(receiver, ReceivingEnd)
    try:
        yield sender, receiver
    finally:
        await sender.close()
        await receiver.close()


def lent(sender: HostSendingEnd, num_bytes: int = 100) -> tuple[SlotLoan, memoryview]:
    loan = sender.lend_slot(num_bytes)
    assert loan is not None
    assert isinstance(loan.view, memoryview)
    return loan, loan.view


async def took(receiver: ReceivingEnd, frame: int, num_bytes: int) -> bytes:
    berth = await receiver.reserve(timeout_s=1.0)
    try:
        await berth.receive(frame, num_bytes, timeout_s=1.0)
        assert isinstance(berth.view, memoryview)
        return bytes(berth.view)
    finally:
        berth.release()


async def test_what_is_made_in_a_lent_slot_is_sent_without_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    async def copied(*_: object) -> None:
        pytest.fail("a frame was copied")

    monkeypatch.setattr(sending, "copy_bytes", copied)
    async with paired() as (sender, receiver):
        assert isinstance(sender, SlotChannel)
        for frame in range(2 * SLOTS):
            loan, view = lent(sender)
            view[:] = bytes([frame + 1]) * 100
            _, found = await asyncio.gather(sender.send(frame, view, timeout_s=1.0), took(receiver, frame, 100))
            assert found == bytes([frame + 1]) * 100
            loan.give_back()


async def test_half_of_the_slots_are_for_frames_that_are_copied() -> None:
    async with paired() as (sender, receiver):
        loans = [lent(sender)[0] for _ in range(SLOTS // 2)]
        assert sender.lend_slot(100) is None
        data = memoryview(bytearray(b"copied" * 10))
        _, found = await asyncio.gather(sender.send(0, data, timeout_s=1.0), took(receiver, 0, len(data)))
        assert found == data
        assert sender.lend_slot(SLOT_BYTES + 1) is None
        loans.pop().give_back()
        assert sender.lend_slot(SLOT_BYTES + 1) is None, "no slot is that large"
        loans.append(lent(sender)[0])
        for loan in loans:
            loan.give_back()


async def test_part_of_a_lent_slot_and_one_that_was_sent_are_copied_like_any_memory() -> None:
    async with paired() as (sender, receiver):
        loan, view = lent(sender)
        view[:] = bytes(range(100))
        for frame, data in enumerate((view[:50], view, view)):
            _, found = await asyncio.gather(sender.send(frame, data, timeout_s=1.0), took(receiver, frame, len(data)))
            assert found == bytes(range(len(data)))
        loan.give_back()


async def test_a_lent_slot_stays_mapped_after_the_end_until_it_comes_back() -> None:
    """Whoever fills it is another thread, and knows nothing of the pair."""
    async with paired() as (sender, receiver):
        loan, view = lent(sender)
        async with asyncio.timeout(1.0):
            await sender.close()
        await receiver.close()
        view[:] = b"x" * 100
        assert sender.lend_slot(100) is None
        with pytest.raises(TransferFailed):
            await sender.send(0, view, timeout_s=1.0)
        del view
        loan.give_back()
        async with asyncio.timeout(1.0):
            await asyncio.wait({sender._ending})


async def test_an_other_thread_asks_while_the_pair_comes_and_goes() -> None:
    """It gets a slot that is mapped, and its own, or none: never one that somebody else has."""
    for _ in range(5):
        async with paired() as (sender, _receiver):
            got: list[SlotLoan] = []
            stop = threading.Event()

            def ask(sender: HostSendingEnd = sender, got: list[SlotLoan] = got, stop: threading.Event = stop) -> None:
                while not stop.is_set():
                    if (loan := sender.lend_slot(SLOT_BYTES)) is not None:
                        assert isinstance(loan.view, memoryview)
                        loan.view[:] = b"y" * SLOT_BYTES
                        got.append(loan)

            thread = threading.Thread(target=ask)
            thread.start()
            for _ in range(20):
                await asyncio.sleep(0)
                assert len({address_of(loan.view) for loan in got}) == len(got) <= SLOTS // 2
                while got:
                    got.pop().give_back()
            await sender.close()
            stop.set()
            await asyncio.to_thread(thread.join)
            while got:
                got.pop().give_back()
