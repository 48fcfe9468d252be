"""Two processes on one GPU, 32k tokens of 8B-shape KV: `python -m tests.gpu.hand_over [--out FILE] [--miniature]`.

NOT RUN YET on a GPU; `--miniature` runs both processes on a CPU, kernels in Triton's interpreter, and times nothing.
What a worker does is done by what a worker has: pages are gathered into staging on the GPU, digested there, offered,
copied into a ring of the other process's memory (CUDA IPC), digested there, compared, scattered. Only the calls between
the workers are replaced, by lines over a socket: gRPC takes longer than these, and a bare checkout has none.

First every page must be equal there, and a page with another digest than was offered must not land. Then hand-overs are
timed, from the first gather to the last landing, for several sizes of frames, beside one copy of the same bytes: as
workers make them, 8 passes over memory, and fused (tests.gpu.fused), 4, which no worker makes.
"""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from statistics import median

import torch

from common.core.clock import SystemClock
from common.kv.digest import DigestKey
from common.kv.staging import Staging
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
from common.transfer.same_host.slots import DeviceSlots, adopt_slots
from common.transfer.scope import TaskScope
from kernels.bench.ceilings import measured_ceilings
from kernels.dispatch import interpreted
from tests.gpu.fused import FusedMoves
from tests.gpu.part import NO_GPU, conditions, part_device, part_parser, tell
from tests.gpu.pipe_peer import PipePeer
from tests.gpu.two_ends import MIB, PAIR, WAIT_S, End, Shape, Words, places

ROOT = Path(__file__).resolve().parents[2]
KEY = DigestKey(bytes(range(32)))
FRAMES_MIB = (8, 32, 128, 256)
FIRST_FUSED_FRAME = 1 << 20
"""Numbers grow on one line: those before are the link's."""
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

    async def hand_over(self, frame_bytes: int, *, corrupt: bool = False) -> bool:
        """Every page, in frames of at most so many bytes; whether all were whole. `corrupt`: under other digests."""
        wanted = PageRun(first_page=0, num_pages=self._shape.num_pages)
        tasks = []
        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
            for run in split(wanted, frame_bytes // self._size):
                staging = await self._end.dock.leaving.acquire(WAIT_S)
                # As on a step loop: launched, and not waited for.
                own = self._places[run.first_page : run.end]
                self._end.storage.gather(own, staging.view[: run.num_pages * self._size])
                tasks.append(group.create_task(self._ship(run, staging, corrupt=corrupt)))
        return all(task.result() for task in tasks)

    async def _ship(self, run: PageRun, staging: Staging, *, corrupt: bool) -> bool:
        data = staging.view[: run.num_pages * self._size]
        try:
            first = run.first_page + corrupt
            digests = await self._end.digester.digest(data, self._size, self._link.digest_key, first_index=first)
            await self._link.carry(None, run, data, digests=digests)
        finally:
            staging.release()
        return await self.peer.wait_landed(run)


class FusedSender:
    """The same pages from the same end, without staging: what is gathered is in the other process's slot."""

    def __init__(self, shape: Shape, end: End, line: SendingEnd, slots: DeviceSlots, peer: PipePeer) -> None:
        self._shape = shape
        self._size = shape.layout.page_bytes
        self._end = end
        self._line = line
        self._slots = slots
        self._peer = peer
        self._places = places(shape, seed=1)
        self._moves = FusedMoves(end.storage, KEY)
        self._next_frame = FIRST_FUSED_FRAME

    async def hand_over(self, frame_bytes: int, *, corrupt: bool = False) -> bool:
        """As Sender's."""
        wanted = PageRun(first_page=0, num_pages=self._shape.num_pages)
        ahead, tasks = asyncio.Semaphore(self._shape.num_slots), []
        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
            for run in split(wanted, frame_bytes // self._size):
                await ahead.acquire()
                tasks.append(group.create_task(self._ship(self._next_frame, run, ahead, corrupt=corrupt)))
                self._next_frame += 1
        return all(task.result() for task in tasks)

    async def _ship(self, frame: int, run: PageRun, ahead: asyncio.Semaphore, *, corrupt: bool) -> bool:
        own, num_bytes = self._places[run.first_page : run.end], run.num_pages * self._size

        async def fill(slot: int) -> None:
            span, first = self._slots.span(slot, num_bytes), run.first_page + corrupt
            gather = partial(self._moves.gather, own, span, first_index=first)
            self._peer.tell_digests(frame, await self._end.dock.offload.run(gather))

        await self._peer.offer_fused(frame, run)
        await self._line.send_filled(frame, num_bytes, fill, timeout_s=WAIT_S)
        ahead.release()
        return await self._peer.wait_landed(run)


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
        memory = DeviceMemory(device_uuid=b"", ipc_handle=bytes.fromhex(told["handle"]))
        invitation = SameHostInvitation(
            socket_name=b"", token=b"", num_slots=shape.num_slots, slot_bytes=shape.slot_bytes, device=memory
        )
        slots = adopt_slots(end.runtime, invitation, grip)
        ring = adopt_ring(descriptor, PAIR, num_slots=shape.num_slots, slot_bytes=shape.slot_bytes)
        os.close(descriptor)
        sending = SendingEnd(ring, Line(line, PAIR))
        channel = DeviceSendingEnd(sending, slots)
        async with TaskScope(counters := TransferCounters()) as scope:
            sender = Sender(shape, end, _link(channel, shape, end, peer, counters, scope), peer)
            fused = FusedSender(shape, end, sending, slots, peer)
            found = {**await checked(sender, peer, shape), **await checked(fused, peer, shape, "fused_")}
            if all(found.values()) and not is_small:
                found |= conditions(device) | await timed(sender, fused, shape, device)
            await channel.close()
        return found


async def checked(way: Sender | FusedSender, peer: PipePeer, shape: Shape, name: str = "") -> dict[str, object]:
    """Every page is equal there, and then wiped; other digests are found. Fused, what they belong to was written: into
    pages that are nobody's yet."""
    largest = shape.slot_bytes
    pages_arrive = await way.hand_over(largest) and await peer.compare()
    is_found = not await way.hand_over(largest, corrupt=True)
    await peer.compare()  # wipes
    return {f"{name}{CHECKS[0]}": pages_arrive, f"{name}{CHECKS[1]}": is_found}


async def timed(sender: Sender, fused: FusedSender, shape: Shape, device: torch.device) -> dict[str, object]:
    """Both ways in turn. The bounds first: what the passes over memory of each take at a large copy's bandwidth."""
    num_bytes = shape.num_pages * shape.layout.page_bytes
    pass_s = num_bytes / measured_ceilings(device, REPEATS).bytes_per_s
    found: dict[str, object] = {"mib": num_bytes // MIB, "one_copy_ms": 2 * pass_s * 1e3}
    ways = (("", sender, 8), ("fused_", fused, 4))
    found |= {f"{name}bound_ms": passes * pass_s * 1e3 for name, _, passes in ways}
    for mib in FRAMES_MIB:
        seconds: dict[str, list[float]] = {name: [] for name, _, _ in ways}
        for _ in range(REPEATS):
            for name, way, _ in ways:
                began = time.perf_counter()
                await way.hand_over(mib * MIB)
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
    checks = (found.get(f"{name}{check}") for name in ("", "fused_") for check in CHECKS)
    return 0 if all(checks) else 1


if __name__ == "__main__":
    sys.exit(main())
