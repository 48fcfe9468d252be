"""What is gloo's alone: where it listens, and two real processes."""

import asyncio
import os
import re
import time
from pathlib import Path

import torch

from common.core.errors import Reason, TransferFailed
from common.transfer.channel import Side
from common.transfer.gloo import GlooFactory
from common.transfer.rendezvous import PairStore
from tests.steady.patient_loop import now
from tests.transfer.test_channel_conformance import buffer, make_pair, move, opened

torch.set_num_threads(1)

LISTEN = "0A"
LOOPBACK = "0100007F"


def own_sockets() -> list[tuple[str, str]]:
    """(local address, state) of this process's TCP sockets, as the kernel writes them."""
    inodes = set()
    for file in Path("/proc/self/fd").iterdir():
        try:
            inodes.add(str(file.readlink()))
        except FileNotFoundError:
            continue
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if f"socket:[{words[9]}]" in inodes:
                found.append((words[1].partition(":")[0], words[3]))
    return found


async def test_nothing_listens_beyond_the_given_address() -> None:
    before = own_sockets()
    async with opened(GlooFactory("127.0.0.1")) as ends:
        await move(*ends, 0, b"x")
        during = own_sockets()
        listening = [address for address, state in during if state == LISTEN]
        assert len(during) > len(before)
        assert listening
        assert set(listening) == {LOOPBACK}


async def test_no_default_group_is_made() -> None:
    async with opened(GlooFactory()) as ends:
        await move(*ends, 0, b"x")
        assert not torch.distributed.is_initialized()


class Misleading(PairStore):
    """Both ends learn an address that sorts after their own: each waits for the other to connect, as before a wall."""

    async def get(self, key: str, *, wait_s: float) -> bytes | None:
        value = await super().get(key, wait_s=wait_s)
        return value and re.sub(rb"(?s)\x02\x00..\x7f\x00\x00\x01", b"\x02\x00\xff\xff\x7f\x00\x00\x01", value, count=1)


async def test_an_end_that_nobody_reaches_gives_up_at_its_deadline() -> None:
    """Gloo tries for five times the timeout that it is given."""
    factory, store, pair = GlooFactory(), Misleading(), make_pair()
    started = now()
    ends = [factory.open(pair, side, store, timeout_s=0.5) for side in (Side.SENDER, Side.RECEIVER)]
    for outcome in await asyncio.gather(*ends, return_exceptions=True):
        assert isinstance(outcome, TransferFailed)
        assert outcome.reason is Reason.TRANSFER_TIMEOUT
    assert now() - started < 1.5


async def test_a_large_frame_moves_at_memory_speed() -> None:
    """Printed, not asserted: the machine may be busy."""
    out = buffer(64 << 20)
    data = memoryview(bytearray(os.urandom(64 << 20)))
    seconds = 0.0
    async with opened(GlooFactory()) as (sender, receiver):
        for frame in range(2):
            started = time.perf_counter()
            await asyncio.gather(sender.send(frame, data, timeout_s=20), receiver.receive(frame, out, timeout_s=20))
            seconds = time.perf_counter() - started
    assert out == data
    print(f"gloo, one process, 64 MiB frame: {len(data) / seconds / 2**30:.2f} GiB/s")
