"""The bookkeeping of the NCCL channel, over communicators that are faked at the one seam where torch begins.

Not run here: NCCL itself. tests/gpu/nccl_pair.py does that on a machine with a GPU.
"""

import asyncio
import threading

import pytest

from common.core.errors import Reason, Refused, TransferFailed
from common.core.ids import WorkerId
from common.kv.span import DeviceSpan
from common.transfer.channel import Channel, Side
from common.transfer.limits import TransferLimits
from common.transfer.menu import ChannelMenu
from common.transfer.messages import HostFacts, OutcomeState, Pair
from common.transfer.nccl import MAX_OPENING, STUCK_STATUS, Communicator, NcclFactory
from common.transfer.rendezvous import PairStore, RendezvousStore
from tests.steady.patient_loop import now
from tests.transfer.fake_nccl import MIB, fake_factory
from tests.transfer.rig import REQUEST, Rig, expect, rigged, ship_all
from tests.transfer.test_channel_conformance import buffer, make_pair, move, opened


async def test_memory_is_counted_while_a_communicator_is_open() -> None:
    factory = fake_factory()
    async with opened(factory) as ends:
        await move(*ends, 0, b"x")
        assert (factory.num_open, factory.num_bytes) == (2, 120 * MIB)
    assert (factory.num_open, factory.num_bytes) == (0, 0)


async def test_a_frame_out_of_order_is_refused_before_it_could_be_taken_for_another() -> None:
    async with opened(fake_factory()) as (sender, receiver):
        assert await move(sender, receiver, 0, b"x") == b"x"
        with pytest.raises(TransferFailed, match="not the next"):
            await sender.send(0, buffer(1), timeout_s=1.0)


async def test_an_abort_that_hangs_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.transfer.nccl.ABORT_S", 0.2)
    died: list[int] = []
    factory = fake_factory(hangs=True, died=died)
    pair, store = make_pair(), PairStore()
    sender, receiver = await asyncio.gather(
        factory.open(pair, Side.SENDER, store, timeout_s=3.0), factory.open(pair, Side.RECEIVER, store, timeout_s=3.0)
    )
    with pytest.raises(TransferFailed) as caught:
        await sender.send(0, buffer(10), timeout_s=0.1)
    assert caught.value.reason is Reason.TRANSFER_TIMEOUT
    assert died == [STUCK_STATUS]
    # Nobody is in a call at the other end, so its thread ends without help.
    await receiver.close()
    wire = next(iter(factory._make.wires.values()))  # type: ignore[attr-defined]  # the fake's own
    with wire.changed:
        wire.num_ready += 1
        wire.changed.notify_all()


async def test_a_communicator_that_comes_too_late_is_aborted() -> None:
    """NCCL may go on trying after its opening was given up; nobody would free what it makes then."""
    late = LateMaker()
    factory = NcclFactory(late, max_pairs=8, die=never)
    with pytest.raises(TransferFailed) as caught:
        await factory.open(make_pair(), Side.SENDER, PairStore(), timeout_s=0.05)
    assert caught.value.reason is Reason.TRANSFER_TIMEOUT
    late.may_end.set()
    await asyncio.to_thread(late.made.aborted.wait, 5.0)
    assert late.made.aborted.is_set()
    assert (factory.num_open, factory.num_bytes) == (0, 0)


async def test_openings_that_hang_are_bounded() -> None:
    """Each keeps a thread, until the library ends by itself."""
    late = LateMaker()
    factory = NcclFactory(late, max_pairs=8, die=never)
    stores = [PairStore() for _ in range(MAX_OPENING)]
    openings = [factory.open(make_pair(), Side.SENDER, store, timeout_s=0.05) for store in stores]
    await asyncio.gather(*openings, return_exceptions=True)
    with pytest.raises(TransferFailed, match="16 openings have not ended") as caught:
        await factory.open(make_pair(), Side.SENDER, PairStore(), timeout_s=0.05)
    assert caught.value.reason is Reason.CHANNEL_BROKEN
    late.may_end.set()
    async with asyncio.timeout(5.0):
        while factory._num_opening:  # threads tell the loop, and nobody else
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("error", [RuntimeError("NCCL error: duplicate GPU\nstack"), ValueError("no such device")])
async def test_an_opening_that_fails_says_so_at_once(error: Exception) -> None:
    def make(*_: object, **__: object) -> Communicator:
        raise error

    factory = NcclFactory(make, max_pairs=8, die=never)
    with pytest.raises(TransferFailed, match=str(error).splitlines()[0]) as caught:
        await factory.open(make_pair(), Side.SENDER, PairStore(), timeout_s=5.0)
    assert caught.value.reason is Reason.CHANNEL_BROKEN
    assert "stack" not in caught.value.message


def never(status: int) -> None:
    raise AssertionError(f"the process was ended with {status}")


class LateMaker:
    """A library that does not come back before it is told to."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self.made = Made()

    def __call__(self, *_: object, **__: object) -> "Made":
        assert self.may_end.wait(10.0)
        return self.made


class Made:
    """A communicator that is never used."""

    num_bytes = MIB

    def __init__(self) -> None:
        self.aborted = threading.Event()

    def send(self, data: object) -> None:
        raise AssertionError("never used")

    receive = send

    def abort(self) -> None:
        self.aborted.set()
        raise RuntimeError("an abort may say so")


class Tethered:
    """The sender's view of the store: a call that can be cut off, as by the death of its process."""

    def __init__(self, pair_store: PairStore) -> None:
        self.pair_store = pair_store
        self.calls: set[asyncio.Task[bytes | None]] = set()

    async def put(self, key: str, value: bytes) -> None:
        await self.pair_store.put(key, value)

    async def get(self, key: str, *, wait_s: float) -> bytes | None:
        call = asyncio.ensure_future(self.pair_store.get(key, wait_s=wait_s))
        self.calls.add(call)
        try:
            return await call
        finally:
            self.calls.discard(call)


async def test_a_sender_that_dies_is_noticed_by_the_wait_that_breaks_off() -> None:
    factory, pair, store = fake_factory(), make_pair(), PairStore()
    remote = Tethered(store)
    sender, receiver = await asyncio.gather(
        factory.open(pair, Side.SENDER, remote, timeout_s=3.0), factory.open(pair, Side.RECEIVER, store, timeout_s=3.0)
    )
    waiting = asyncio.ensure_future(receiver.receive(0, buffer(10), timeout_s=10.0))
    await asyncio.sleep(0.05)
    started = now()
    for call in tuple(remote.calls):
        call.cancel()
    with pytest.raises(TransferFailed, match="the sender is gone"):
        await waiting
    assert now() - started < 2.0
    await sender.close()
    await receiver.close()


async def deliver(rig: Rig, sender: str, receiver: str, name: str) -> OutcomeState:
    decode = rig.ends[WorkerId(receiver)]
    _, promised = expect(decode, 2, name=name)
    transfer = rig.ends[WorkerId(sender)].start(promised, REQUEST, decode.me)
    await ship_all(transfer, 2)
    return (await transfer.wait_outcome(20.0)).state


async def test_the_idlest_communicator_makes_room_for_the_next() -> None:
    """Far below the limit of links: what is scarce is device memory."""
    async with rigged(limits=TransferLimits()) as rig:
        costly = Costly(rig, max_pairs=2)
        for name in ("p", "d1", "d2", "d3"):
            await rig.add(name, channels=ChannelMenu(costly))
        for number, name in enumerate(("d1", "d2", "d3")):
            assert await deliver(rig, "p", name, f"res-{number}") is OutcomeState.DONE
        prefill = rig.ends[WorkerId("p")].snapshot()
        assert prefill.links == 2
        assert prefill.sent.incidents["link_evicted"] == 1
        assert await deliver(rig, "p", "d1", "res-again") is OutcomeState.DONE


async def test_communicators_in_use_are_not_taken_away() -> None:
    async with rigged(limits=TransferLimits()) as rig:
        costly = Costly(rig, max_pairs=1)
        for name in ("p", "d1", "d2"):
            await rig.add(name, channels=ChannelMenu(costly))
        held = rig.ends[WorkerId("p")]
        _, promised = expect(rig.ends[WorkerId("d1")], 2)
        await held.start(promised, REQUEST, rig.ends[WorkerId("d1")].me).open()
        with pytest.raises(Refused, match="all 1 nccl links are in use"):
            await deliver(rig, "p", "d2", "res-2")


class Costly:
    """The rig's loopback, at the price of communicators."""

    name = "nccl"

    def __init__(self, rig: Rig, *, max_pairs: int) -> None:
        self.max_pairs: int | None = max_pairs
        self._network = rig.network

    def misfit(self, there: HostFacts | None) -> str:
        return ""

    async def open(self, pair: Pair, side: Side, store: RendezvousStore, *, timeout_s: float) -> Channel:
        return await self._network.open(pair, side, store, timeout_s=timeout_s)


def test_a_part_of_device_memory_stays_within_it() -> None:
    span = DeviceSpan(address=1 << 40, num_bytes=100, device=0)
    part = span.part(10, 30)
    assert (part.address, len(part)) == ((1 << 40) + 10, 20)
    assert part.__cuda_array_interface__["data"] == ((1 << 40) + 10, False)
    with pytest.raises(AssertionError):
        span.part(90, 101)
