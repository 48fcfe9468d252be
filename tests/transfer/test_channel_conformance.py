"""What every channel promises, checked on each of them: gloo with real sockets, shared memory,
NCCL over faked communicators, CUDA IPC over a faked device, loopback in memory.
"""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import torch

from common.core.entropy import SeededEntropy, SystemEntropy
from common.core.errors import Reason, TransferFailed
from common.core.ids import Epoch, WorkerId, WorkerRef
from common.transfer.channel import Channel, ChannelFactory, Side
from common.transfer.gloo import GlooFactory
from common.transfer.host import read_host
from common.transfer.loopback import LoopbackNetwork
from common.transfer.messages import Pair
from common.transfer.rendezvous import PairStore
from common.transfer.same_host.factory import SameHostFactory
from tests.steady.patient_loop import now
from tests.transfer.device_frames import DeviceFrames
from tests.transfer.fake_card import Card, card_factory
from tests.transfer.fake_nccl import fake_factory

torch.set_num_threads(1)

NOTICED_S = 2.0
"""A failure on either side reaches the other within this."""


@pytest.fixture(params=["gloo", "same_host", "nccl", "cuda_ipc", "cuda_ipc_lent", "loopback"])
def factory(request: pytest.FixtureRequest) -> ChannelFactory:
    return make_factory(request.param)


def make_factory(channel: str) -> ChannelFactory:
    match channel:
        case "gloo":
            return GlooFactory()
        case "same_host":
            return shared_memory()
        case "nccl":  # its bookkeeping: NCCL itself needs a GPU
            return fake_factory()
        case "cuda_ipc":  # likewise: its runtime keeps device memory here
            return card_factory(Card())
        case "cuda_ipc_lent":  # as a hand-over uses it: both ends' bytes are the device's
            return DeviceFrames(Card())
        case _:
            return LoopbackNetwork(SeededEntropy(1))


def shared_memory() -> SameHostFactory:
    host = read_host()
    assert host is not None
    return SameHostFactory(host, num_slots=3, slot_bytes=9 << 20, entropy=SystemEntropy())


def make_pair(nonce: int = 1) -> Pair:
    sender = WorkerRef(worker=WorkerId("p"), epoch=Epoch(1), address="p:1")
    receiver = WorkerRef(worker=WorkerId("d"), epoch=Epoch(2), address="d:1")
    return Pair(sender=sender, receiver=receiver, nonce=nonce, channel="any")


@asynccontextmanager
async def opened(factory: ChannelFactory, nonce: int = 1) -> AsyncIterator[tuple[Channel, Channel]]:
    """Both ends of one pair in this process."""
    pair, store = make_pair(nonce), PairStore()
    sender, receiver = await asyncio.gather(
        factory.open(pair, Side.SENDER, store, timeout_s=3.0), factory.open(pair, Side.RECEIVER, store, timeout_s=3.0)
    )
    try:
        yield sender, receiver
    finally:
        await sender.close()
        await receiver.close()


def buffer(num_bytes: int) -> memoryview:
    return memoryview(bytearray(num_bytes))


async def move(sender: Channel, receiver: Channel, frame: int, data: bytes) -> bytes:
    out = buffer(len(data))
    await asyncio.gather(
        sender.send(frame, memoryview(bytearray(data)), timeout_s=5.0), receiver.receive(frame, out, timeout_s=5.0)
    )
    return bytes(out)


@pytest.mark.parametrize("num_bytes", [1, 63, 4096, 65537, 1 << 20, (8 << 20) + 1])
async def test_bytes_arrive_as_they_left(factory: ChannelFactory, num_bytes: int) -> None:
    data = os.urandom(num_bytes)
    async with opened(factory) as (sender, receiver):
        assert await move(sender, receiver, 0, data) == data


async def test_frames_keep_their_numbers(factory: ChannelFactory) -> None:
    """Twenty frames of growing sizes, posted ahead: each receive gets its own frame."""
    frames = [os.urandom(1000 * (number + 1)) for number in range(20)]
    outs = [buffer(len(frame)) for frame in frames]
    async with opened(factory) as (sender, receiver):
        await asyncio.gather(
            *(receiver.receive(number, out, timeout_s=5.0) for number, out in enumerate(outs)),
            *(sender.send(n, memoryview(bytearray(frame)), timeout_s=5.0) for n, frame in enumerate(frames)),
        )
    assert [bytes(out) for out in outs] == frames


async def test_a_frame_that_was_announced_ahead_fails_with_its_pair(factory: ChannelFactory) -> None:
    """The one before it has come, whole; nobody waits for it at its own deadline."""
    data, outs = os.urandom(1 << 20), [buffer(1 << 20), buffer(1 << 20)]
    async with opened(factory) as (sender, receiver):
        first, second = (
            asyncio.ensure_future(receiver.receive(number, out, timeout_s=10.0)) for number, out in enumerate(outs)
        )
        await sender.send(0, memoryview(bytearray(data)), timeout_s=5.0)
        await first
        started = now()
        await sender.close()
        with pytest.raises(TransferFailed):
            await second
        assert now() - started < NOTICED_S
    assert bytes(outs[0]) == data
    assert bytes(outs[1]) == bytes(1 << 20)


async def test_a_receive_takes_no_frame_of_another_number(factory: ChannelFactory) -> None:
    """A stale frame is never taken for the one that is awaited: both ends fail instead."""
    out = buffer(100)
    async with opened(factory) as (sender, receiver):
        results = await asyncio.gather(
            sender.send(6, buffer(100), timeout_s=0.5), receiver.receive(7, out, timeout_s=0.5), return_exceptions=True
        )
    assert all(isinstance(result, TransferFailed) for result in results)
    assert bytes(out) == bytes(100)


async def test_a_missed_deadline_kills_the_channel_for_good(factory: ChannelFactory) -> None:
    async with opened(factory) as (sender, receiver):
        started, started_at = now(), time.monotonic()
        with pytest.raises(TransferFailed) as caught:
            await receiver.receive(0, buffer(10), timeout_s=0.3)
        assert caught.value.reason is Reason.TRANSFER_TIMEOUT
        assert time.monotonic() - started_at > 0.25
        assert now() - started < 1.5
        for call in (receiver.receive(1, buffer(10), timeout_s=1.0), sender.send(1, buffer(10), timeout_s=1.0)):
            with pytest.raises(TransferFailed):
                await call


@pytest.mark.parametrize("closing", [Side.SENDER, Side.RECEIVER])
async def test_a_closed_end_is_noticed_by_the_other_while_it_waits(factory: ChannelFactory, closing: Side) -> None:
    async with opened(factory) as (sender, receiver):
        if closing is Side.SENDER:
            waiting = asyncio.ensure_future(receiver.receive(0, buffer(1 << 20), timeout_s=10.0))
        else:
            waiting = asyncio.ensure_future(sender.send(0, buffer(1 << 20), timeout_s=10.0))
        await asyncio.sleep(0.05)
        started = now()
        await (sender if closing is Side.SENDER else receiver).close()
        with pytest.raises(TransferFailed):
            await waiting
        assert now() - started < NOTICED_S


async def test_a_closed_end_is_noticed_at_the_next_call(factory: ChannelFactory) -> None:
    async with opened(factory) as (sender, receiver):
        assert await move(sender, receiver, 0, b"before") == b"before"
        await receiver.close()
        started = now()
        with pytest.raises(TransferFailed):
            await sender.send(1, buffer(1 << 20), timeout_s=5.0)
        assert now() - started < NOTICED_S
        with pytest.raises(TransferFailed):
            await receiver.receive(1, buffer(10), timeout_s=1.0)


async def test_an_end_that_never_comes_fails_the_opening_in_time(factory: ChannelFactory) -> None:
    started = now()
    with pytest.raises(TransferFailed):
        await factory.open(make_pair(), Side.SENDER, PairStore(), timeout_s=0.5)
    assert now() - started < NOTICED_S


async def test_a_store_that_breaks_fails_the_opening(factory: ChannelFactory) -> None:
    store = PairStore()
    opening = asyncio.ensure_future(factory.open(make_pair(), Side.RECEIVER, store, timeout_s=5.0))
    await asyncio.sleep(0.05)
    started = now()
    await store.close()
    with pytest.raises(TransferFailed):
        await opening
    assert now() - started < NOTICED_S


async def test_the_buffer_is_free_when_a_cancelled_receive_returns(factory: ChannelFactory) -> None:
    async with opened(factory) as (sender, receiver):
        out = buffer(1 << 20)
        receiving = asyncio.ensure_future(receiver.receive(0, out, timeout_s=0.5))
        await asyncio.sleep(0.05)
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving
        before = bytes(out)
        with pytest.raises(TransferFailed):
            await sender.send(0, memoryview(bytearray(os.urandom(1 << 20))), timeout_s=0.3)
        assert bytes(out) == before


async def test_an_opening_that_is_cancelled_leaves_nothing(factory: ChannelFactory) -> None:
    threads, files = count_threads(), count_files()
    opening = asyncio.ensure_future(factory.open(make_pair(), Side.SENDER, PairStore(), timeout_s=0.5))
    await asyncio.sleep(0.05)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await settled(threads, files)


async def test_fifty_pairs_opened_used_and_closed_leak_nothing(factory: ChannelFactory) -> None:
    async with opened(factory, nonce=100) as ends:  # whatever is made once per process is made here
        await move(*ends, 0, b"warm")
    await fill_pool()
    threads, files = count_threads(), count_files()
    for nonce in range(1, 51):
        async with opened(factory, nonce) as (sender, receiver):
            assert await move(sender, receiver, 0, b"page") == b"page"
    await settled(threads, files)


async def test_pairs_fail_alone(factory: ChannelFactory) -> None:
    """One pair times out; its neighbour, in use all the while, does not notice."""
    async with opened(factory, 1) as (_, broken), opened(factory, 2) as (sender, receiver):
        failing = asyncio.ensure_future(broken.receive(0, buffer(10), timeout_s=0.3))
        for frame in range(20):
            assert await move(sender, receiver, frame, b"x" * 1000) == b"x" * 1000
            await asyncio.sleep(0.02)
        with pytest.raises(TransferFailed):
            await failing
        assert await move(sender, receiver, 20, b"after") == b"after"


async def fill_pool() -> None:
    """The loop makes threads of its own as they are wanted: here at once, so that none is taken for a leak later."""
    meeting = threading.Barrier(len(os.sched_getaffinity(0)) + 4)
    await asyncio.gather(*(asyncio.to_thread(meeting.wait, 5.0) for _ in range(meeting.parties)))


def count_threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def count_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def settled(threads: int, files: int) -> None:
    """Threads and files are back where they were, at the latest after the deadline of an abandoned call."""
    async with asyncio.timeout(3.0):
        while count_threads() > threads or count_files() > files:  # the kernel tells nobody
            await asyncio.sleep(0.02)
