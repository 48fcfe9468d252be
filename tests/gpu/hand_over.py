"""Two processes on one GPU, 32k tokens of 8B-shape KV: `python -m tests.gpu.hand_over [--out FILE] [--miniature]`.

NOT RUN YET on a GPU; `--miniature` runs both processes on a CPU, kernels in Triton's interpreter, and times nothing.
What a worker does is done by what a worker has, twice over:

    in slots    gathered with digests straight into the ring of the other process (CUDA IPC), offered, scattered there
                with verification: 4 passes over memory. What workers do where a slot is free.
    staged      gathered into staging, digested, offered, copied into the ring, digested, compared, scattered: 8 passes.
                What is left where none is.

Only the calls between the workers are replaced, by lines over a socket: gRPC takes longer than these, and a bare
checkout has none. First every page must be equal there, and a page with another digest than was offered must be found.
Then hand-overs are timed, from the first gather to the last landing, both ways in turn, for several sizes of frames,
beside one copy of the same bytes.
"""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median

import torch

from common.core.clock import SystemClock
from common.kv.digest import DigestKey
from common.transfer.channel import Channel
from common.transfer.counters import TransferCounters
from common.transfer.limits import TransferLimits
from common.transfer.link import Link
from common.transfer.messages import DeviceMemory, PageRun, SameHostInvitation
from common.transfer.plan import split
from common.transfer.same_host.device import DeviceSendingEnd
from common.transfer.same_host.line import Line
from common.transfer.same_host.ring import adopt_ring, create_ring
from common.transfer.same_host.sending import SendingEnd
from common.transfer.same_host.slots import adopt_slots
from common.transfer.scope import TaskScope
from kernels.bench.ceilings import measured_ceilings
from kernels.dispatch import interpreted
from tests.gpu.part import NO_GPU, conditions, part_device, part_parser, tell
from tests.gpu.pipe_peer import PipePeer
from tests.gpu.two_ends import MIB, PAIR, WAIT_S, End, Shape, Words, places

ROOT = Path(__file__).resolve().parents[2]
KEY = DigestKey(bytes(range(32)))
FRAMES_MIB = (8, 32, 128, 256)
WAYS = (("", True, 4), ("staged_", False, 8))
"""What figures begin with, whether in slots, and passes over memory."""
REPEATS = 5
CHECKS = ("pages_arrive", "other_digests_are_found")


class Sender:
    """The prefill side: an end of its own, and the link."""

    def __init__(self, shape: Shape, end: End, link: Link, peer: PipePeer) -> None:
        self.peer = peer
        self._shape = shape
        self._size = shape.layout.page_bytes
        self._end = end
        self._link = link
        self._places = places(shape, seed=1)
        end.pages_PB[torch.tensor(self._places, device=end.storage.device)] = end.fill()
        end.storage.streams.settle(end.storage.streams.end_step())

    async def hand_over(self, frame_bytes: int, *, in_slots: bool, corrupt: bool = False) -> bool:
        """Every page, in frames of at most so many bytes; whether all were whole. `corrupt`: under other digests.

        As many runs ahead as slots are lent: as on a step loop that is no faster than the landing.
        """
        wanted = PageRun(first_page=0, num_pages=self._shape.num_pages)
        ahead, tasks = asyncio.Semaphore(self._shape.num_slots // 2), []
        ship = self._ship_slot if in_slots else self._ship_staged
        self.peer.verifies_landing = in_slots
        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
            for run in split(wanted, frame_bytes // self._size):
                await ahead.acquire()
                tasks.append(group.create_task(ship(run, ahead, corrupt=corrupt)))
        return all(task.result() for task in tasks)

    async def _ship_slot(self, run: PageRun, ahead: asyncio.Semaphore, *, corrupt: bool) -> bool:
        slot = self._link.lend_slot(run.num_pages * self._size)
        assert slot is not None, "half of the ring is lent, and that is how many are ahead"
        own = self._places[run.first_page : run.end]
        first, key, data = run.first_page + corrupt, self._link.digest_key, slot.view
        # As on a step loop: launched, and not waited for.
        sealing = self._end.storage.gather_sealed(own, data, key, first_index=first)
        try:
            await self._link.carry(None, run, data, digests=await self._end.digester.finish(sealing))
        finally:
            await self._end.digester.finish_lift(data)  # type: ignore[arg-type]  # of the device's memory
            slot.give_back()
            ahead.release()
        return await self.peer.wait_landed(run)

    async def _ship_staged(self, run: PageRun, ahead: asyncio.Semaphore, *, corrupt: bool) -> bool:
        staging = await self._end.dock.leaving.acquire(WAIT_S)
        data, own = staging.view[: run.num_pages * self._size], self._places[run.first_page : run.end]
        self._end.storage.gather(own, data)
        try:
            first = run.first_page + corrupt
            digests = await self._end.digester.digest(data, self._size, self._link.digest_key, first_index=first)
            await self._link.carry(None, run, data, digests=digests)
        finally:
            staging.release()
            ahead.release()
        return await self.peer.wait_landed(run)


@contextmanager
def receiver(*, is_small: bool) -> Iterator[tuple[Shape, int, socket.socket, socket.socket, int]]:
    """The other process, and this one's ends: the ring, the line, the words, the grip."""
    shape = Shape.of(is_small=is_small)
    ring, descriptor = create_ring(PAIR, num_slots=shape.num_slots, slot_bytes=shape.slot_bytes)
    ring.close()
    line, their_line = socket.socketpair()
    words, their_words = socket.socketpair()
    their_grip, grip = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    theirs = (descriptor, their_line.fileno(), their_words.fileno(), their_grip)
    command = [sys.executable, "-m", "tests.gpu.hand_over_receiver", str(int(is_small)), *map(str, theirs)]
    child = subprocess.Popen(command, cwd=ROOT, pass_fds=theirs)
    for socket_ in (their_line, their_words):
        socket_.close()
    os.close(their_grip)
    line.setblocking(False)
    try:
        yield shape, descriptor, line, words, grip
    finally:
        child.kill()
        child.wait(timeout=10)


async def measure(device: torch.device, *, is_small: bool) -> dict[str, object]:
    """What was found. Times come only after every page arrived."""
    with receiver(is_small=is_small) as (shape, descriptor, line, words, grip):
        spoken = await Words.over(words)
        async with asyncio.timeout(WAIT_S):
            told = await spoken.hear()
        if told is None:
            return {"pages_arrive": False, "other_digests_are_found": False, "why": "the other process ended"}
        end, peer = End(shape, device), PipePeer(spoken)
        memory = DeviceMemory(device_uuid=end.runtime.bus_id, ipc_handle=bytes.fromhex(told["handle"]))
        invitation = SameHostInvitation(
            socket_name=b"", token=b"", num_slots=shape.num_slots, slot_bytes=shape.slot_bytes, device=memory
        )
        slots = adopt_slots(end.runtime, invitation, grip)
        ring = adopt_ring(descriptor, PAIR, num_slots=shape.num_slots, slot_bytes=shape.slot_bytes)
        os.close(descriptor)
        channel = DeviceSendingEnd(SendingEnd(ring, Line(line, PAIR)), slots)
        async with TaskScope(counters := TransferCounters()) as scope:
            sender = Sender(shape, end, _link(channel, shape, end, peer, counters, scope), peer)
            found: dict[str, object] = {}
            for name, in_slots, _ in WAYS:
                found |= await checked(sender, peer, shape, name, in_slots=in_slots)
            if all(found.values()) and not is_small:
                found |= conditions(device) | await timed(sender, shape, device)
            await channel.close()
        return found


async def checked(sender: Sender, peer: PipePeer, shape: Shape, name: str, *, in_slots: bool) -> dict[str, object]:
    """Every page is equal there, and then wiped; other digests are found. With `in_slots` what they belong to was
    written all the same: into pages that would be nobody's yet."""
    largest = shape.slot_bytes
    pages_arrive = await sender.hand_over(largest, in_slots=in_slots) and await peer.compare()
    is_found = not await sender.hand_over(largest, in_slots=in_slots, corrupt=True)
    await peer.compare()  # wipes
    return {f"{name}{CHECKS[0]}": pages_arrive, f"{name}{CHECKS[1]}": is_found}


async def timed(sender: Sender, shape: Shape, device: torch.device) -> dict[str, object]:
    """Both ways in turn. The bounds first: what the passes over memory of each take at a large copy's bandwidth."""
    num_bytes = shape.num_pages * shape.layout.page_bytes
    pass_s = num_bytes / measured_ceilings(device, REPEATS).bytes_per_s
    found: dict[str, object] = {"mib": num_bytes // MIB, "one_copy_ms": 2 * pass_s * 1e3}
    found |= {f"{name}bound_ms": passes * pass_s * 1e3 for name, _, passes in WAYS}
    for mib in FRAMES_MIB:
        seconds: dict[str, list[float]] = {name: [] for name, _, _ in WAYS}
        for _ in range(REPEATS):
            for name, in_slots, _ in WAYS:
                began = time.perf_counter()
                await sender.hand_over(mib * MIB, in_slots=in_slots)
                seconds[name].append(time.perf_counter() - began)
        for name, taken in seconds.items():
            took_s = median(taken)
            found[f"{name}frames_of_{mib}_mib"] = {
                "ms": took_s * 1e3,
                "share_of_one_copy": 2 * pass_s / took_s,
                "ms_per_frame": took_s * 1e3 / (num_bytes / (mib * MIB)),
            }
    return found


def _link(
    channel: Channel, shape: Shape, end: End, peer: PipePeer, counters: TransferCounters, scope: TaskScope
) -> Link:
    return Link(
        PAIR,
        peer=peer,  # type: ignore[arg-type]  # what a link asks of one here
        channel=channel,
        digest_key=KEY,
        max_run_bytes=shape.slot_bytes,
        takes_layers=True,
        limits=TransferLimits(control_timeout_s=WAIT_S),
        counters=counters,
        scope=scope,
        clock=SystemClock(),
        dock=end.dock,
    )


def main() -> int:
    """0 when every page arrived and every other digest was found, 1 when not, 2 without a GPU."""
    given = part_parser(__doc__).parse_args()
    device = part_device(is_small=given.miniature)
    if device is None:
        return NO_GPU
    with interpreted() if given.miniature else nullcontext():
        found = asyncio.run(measure(device, is_small=given.miniature))
    tell(found, given.out)
    checks = (found.get(f"{name}{check}") for name, _, _ in WAYS for check in CHECKS)
    return 0 if all(checks) else 1


if __name__ == "__main__":
    sys.exit(main())
