"""What is shared memory's alone: fences of the ring, strangers at the door, and that nothing outlives anybody."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from common.core.entropy import SystemEntropy
from common.core.errors import Reason, Refused, TransferFailed
from common.core.ids import Epoch
from common.rpc.convert.same_host import invitation_from_bytes, invitation_to_bytes
from common.transfer.channel import Side
from common.transfer.host import read_host
from common.transfer.messages import Pair, SameHostInvitation
from common.transfer.rendezvous import PairStore
from common.transfer.same_host.factory import INVITATION, SameHostFactory
from common.transfer.same_host.line import Line, Word, WordKind
from common.transfer.same_host.receiving import ReceivingEnd
from common.transfer.same_host.ring import Stamp, adopt_ring, create_ring, ring_bytes
from common.transfer.same_host.sending import SendingEnd
from tests.transfer.test_channel_conformance import buffer, count_files, make_pair, opened

SLOTS, SLOT_BYTES = 2, 4096


def factory() -> SameHostFactory:
    host = read_host()
    assert host is not None
    return SameHostFactory(host, num_slots=SLOTS, slot_bytes=SLOT_BYTES, entropy=SystemEntropy())


class Forger:
    """A sender that says whatever a test wants, over a real ring and a real line."""

    def __init__(self, pair: Pair) -> None:
        self.ring, descriptor = create_ring(pair, num_slots=SLOTS, slot_bytes=SLOT_BYTES)
        os.close(descriptor)
        ours, theirs = socket.socketpair()
        for each in (ours, theirs):
            each.setblocking(False)
        self.heard: list[Word] = []
        self.line = Line(ours, pair)
        self.line.listen(self.heard.append)
        self.receiver = ReceivingEnd(self.ring, Line(theirs, pair))

    def say(self, *, frame: int, generation: int = 1, slot: int = 0, num_bytes: int = 8, stamped: bool = True) -> None:
        if stamped:
            self.ring.stamp(slot, Stamp(generation=generation, frame=frame, num_bytes=num_bytes))
        self.line.say(Word(kind=WordKind.FULL, slot=slot, generation=generation, frame=frame, num_bytes=num_bytes))

    async def close(self) -> None:
        self.line.end("the test is over")
        await self.receiver.close()


@asynccontextmanager
async def forging() -> AsyncIterator[Forger]:
    forger = Forger(make_pair())
    try:
        yield forger
    finally:
        await forger.close()


async def test_a_frame_that_is_said_twice_ends_the_pair() -> None:
    async with forging() as forger:
        forger.say(frame=0)
        await forger.receiver.receive(0, buffer(8), timeout_s=1.0)
        forger.say(frame=0, generation=2)
        with pytest.raises(TransferFailed, match="comes after"):
            await forger.receiver.receive(1, buffer(8), timeout_s=1.0)


@pytest.mark.parametrize("generation", [0, 2, 2**40])
async def test_a_word_about_another_use_of_a_slot_ends_the_pair(generation: int) -> None:
    async with forging() as forger:
        forger.say(frame=0, generation=generation)
        with pytest.raises(TransferFailed, match="out of turn"):
            await forger.receiver.receive(0, buffer(8), timeout_s=1.0)


async def test_a_slot_that_is_being_read_cannot_be_announced_again() -> None:
    async with forging() as forger:
        forger.say(frame=0)
        word = await forger.receiver.take(0, 8, timeout_s=1.0)
        forger.say(frame=1, generation=2)
        with pytest.raises(TransferFailed, match="out of turn"):
            await forger.receiver.receive(1, buffer(8), timeout_s=1.0)
        forger.receiver.give_back(word)


async def test_a_slot_without_its_stamp_ends_the_pair() -> None:
    async with forging() as forger:
        forger.say(frame=0, stamped=False)
        with pytest.raises(TransferFailed, match="another stamp"):
            await forger.receiver.receive(0, buffer(8), timeout_s=1.0)


@pytest.mark.parametrize("word", [{"slot": SLOTS}, {"num_bytes": SLOT_BYTES + 1}])
async def test_a_word_that_fits_no_slot_ends_the_pair(word: dict[str, int]) -> None:
    async with forging() as forger:
        forger.say(frame=0, stamped=False, **word)
        with pytest.raises(TransferFailed, match="fits no slot"):
            await forger.receiver.receive(0, buffer(8), timeout_s=1.0)


@pytest.mark.parametrize("num_bytes", [7, 9])
async def test_a_frame_of_another_size_than_agreed_ends_the_pair_and_not_the_process(num_bytes: int) -> None:
    async with forging() as forger:
        forger.say(frame=0, num_bytes=num_bytes)
        with pytest.raises(TransferFailed, match="agreed were 8"):
            await forger.receiver.receive(0, buffer(8), timeout_s=1.0)


async def test_noise_on_the_line_ends_the_pair() -> None:
    async with forging() as forger:
        forger.line._connection.send(os.urandom(320))
        with pytest.raises(TransferFailed):
            await forger.receiver.receive(0, buffer(8), timeout_s=1.0)


async def test_a_full_ring_refuses_until_something_has_landed() -> None:
    async with opened(factory()) as (sender, receiver):
        assert isinstance(receiver, ReceivingEnd)
        berths = [await receiver.reserve(timeout_s=0.1) for _ in range(SLOTS)]
        with pytest.raises(Refused) as caught:
            await receiver.reserve(timeout_s=0.05)
        assert caught.value.reason is Reason.MEMORY_PRESSURE
        for frame, berth in enumerate(berths):
            page = memoryview(bytearray([frame + 1] * 100))
            await asyncio.gather(sender.send(frame, page, timeout_s=1.0), berth.receive(frame, 100, timeout_s=1.0))
        waiting = asyncio.ensure_future(sender.send(2, memoryview(bytearray(b"c" * 100)), timeout_s=1.0))
        await asyncio.sleep(0.02)
        assert bytes(berths[0].view) == b"\1" * 100, "read where it lies; nothing is written over it"
        berths[0].release()
        third = await receiver.reserve(timeout_s=0.1)
        await third.receive(2, 100, timeout_s=1.0)
        await waiting
        assert bytes(third.view) == b"c" * 100
        berths[1].release()
        third.release()


async def test_a_lent_slot_outlives_its_pair_and_takes_the_memory_with_it() -> None:
    files = count_files()
    async with opened(factory()) as (sender, receiver):
        assert isinstance(receiver, ReceivingEnd)
        berth = await receiver.reserve(timeout_s=0.1)
        page = memoryview(bytearray(b"page" * 25))
        await asyncio.gather(sender.send(0, page, timeout_s=1.0), berth.receive(0, 100, timeout_s=1.0))
    assert bytes(berth.view) == b"page" * 25
    berth.release()
    assert count_files() == files


async def test_giving_back_after_the_other_end_died_is_no_failure() -> None:
    async with forging() as forger:
        forger.say(frame=0)
        word = await forger.receiver.take(0, 8, timeout_s=1.0)
        forger.line.end("killed")  # the receiver's loop has not heard of it yet
        forger.receiver.give_back(word)
        with pytest.raises(TransferFailed):
            await forger.receiver.receive(1, buffer(8), timeout_s=1.0)


async def test_only_who_shows_the_token_gets_the_ring() -> None:
    pair, store = make_pair(), PairStore()
    opening = asyncio.ensure_future(factory().open(pair, Side.RECEIVER, store, timeout_s=3.0))
    invitation = invitation_from_bytes(await store.get(INVITATION, wait_s=1.0) or b"")
    await store.put("same_host/coming", b"")
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(invitation.socket_name)
        stranger.sendall(bytes(32))
        assert await asyncio.to_thread(stranger.recv, 1) == b""
    sender = await factory().open(pair, Side.SENDER, store, timeout_s=3.0)
    receiver = await opening
    out = buffer(4)
    await asyncio.gather(
        sender.send(0, memoryview(bytearray(b"page")), timeout_s=1.0), receiver.receive(0, out, timeout_s=1.0)
    )
    assert bytes(out) == b"page"
    await sender.close()
    await receiver.close()


async def test_an_invitation_that_leads_nowhere_is_no_silence() -> None:
    """As from another network namespace: the facts may agree, the name is unknown here. The next channel is tried."""
    store = PairStore()
    invitation = SameHostInvitation(
        socket_name=b"\0baton/nobody-listens-here", token=bytes(32), num_slots=SLOTS, slot_bytes=SLOT_BYTES
    )
    await store.put(INVITATION, invitation_to_bytes(invitation))
    with pytest.raises(TransferFailed, match="out of this host's reach") as caught:
        await factory().open(make_pair(), Side.SENDER, store, timeout_s=3.0)
    assert caught.value.reason is Reason.CHANNEL_BROKEN


def test_a_ring_of_another_pair_is_not_adopted() -> None:
    ring, descriptor = create_ring(make_pair(1), num_slots=SLOTS, slot_bytes=SLOT_BYTES)
    other = make_pair(1)
    restarted = Pair(
        sender=other.sender,
        receiver=type(other.receiver)(other.receiver.worker, Epoch(99), other.receiver.address),
        nonce=other.nonce,
        channel=other.channel,
    )
    for wrong in (make_pair(2), restarted):
        with pytest.raises(TransferFailed, match="another pair"):
            adopt_ring(descriptor, wrong, num_slots=SLOTS, slot_bytes=SLOT_BYTES)
    with pytest.raises(TransferFailed, match="were agreed"):
        adopt_ring(descriptor, make_pair(1), num_slots=SLOTS + 1, slot_bytes=SLOT_BYTES)
    os.close(descriptor)
    ring.close()


def test_memory_whose_size_can_change_is_not_adopted() -> None:
    """A truncated mapping would end this process with SIGBUS at its next look."""
    descriptor = os.memfd_create("open", os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, ring_bytes(SLOTS, SLOT_BYTES))
    with pytest.raises(TransferFailed, match="sealed False"):
        adopt_ring(descriptor, make_pair(), num_slots=SLOTS, slot_bytes=SLOT_BYTES)
    os.close(descriptor)


async def test_the_sender_does_not_believe_in_slots_that_are_not_out() -> None:
    pair = make_pair()
    ring, descriptor = create_ring(pair, num_slots=SLOTS, slot_bytes=SLOT_BYTES)
    os.close(descriptor)
    ours, theirs = socket.socketpair()
    for each in (ours, theirs):
        each.setblocking(False)
    sender, line = SendingEnd(ring, Line(ours, pair)), Line(theirs, pair)
    line.say(Word(kind=WordKind.RELEASED, slot=0, generation=0, frame=0, num_bytes=0))
    with pytest.raises(TransferFailed, match="not out"):
        await sender.send(0, buffer(10), timeout_s=1.0)
    await sender.close()
    line.end("done")


PROGRAM = """
import os, socket, sys
from common.transfer.same_host.ring import create_ring
from tests.transfer.test_channel_conformance import make_pair
ring, descriptor = create_ring(make_pair(), num_slots=2, slot_bytes=1 << 20)
ring.slot(0)[:] = bytes(1 << 20)
print("made", flush=True)
sys.stdin.read()
"""


@pytest.mark.cluster
@pytest.mark.calm
def test_a_killed_process_leaves_no_memory_behind() -> None:
    """The ring has no name, so there is nothing that anybody would have to clear away."""
    before = set(Path("/dev/shm").iterdir())
    child = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdin is not None
    assert child.stdout.readline() == b"made\n"
    ours = {file for file in set(Path("/dev/shm").iterdir()) - before if "baton" in file.name}
    child.send_signal(signal.SIGKILL)
    child.wait(timeout=10)
    child.stdin.close()
    child.stdout.close()
    assert ours == set()
