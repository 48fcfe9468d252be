"""Two processes on one GPU, 32k tokens of 8B-shape KV: `python -m tests.gpu.hand_over [--out FILE] [--miniature]`.

NOT RUN YET on a GPU; `--miniature` runs both processes on a CPU, kernels in Triton's interpreter, and times nothing.
What a worker does is done by what a worker has: pages are gathered into staging on the GPU, digested there, offered,
copied into a ring of the other process's memory (CUDA IPC), digested there, compared, scattered. Only the calls between
the workers are replaced, by lines over a socket: gRPC takes longer than these, and a bare checkout has none.

First every page must be equal there, and a page with another digest than was offered must not land. Then hand-overs are
timed, from the first gather to the last landing, for several sizes of frames, beside one copy of the same bytes.
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
from common.kv.staging import Staging
from common.transfer.channel import Channel
from common.transfer.counters import TransferCounters
from common.transfer.limits import TransferLimits
from common.transfer.link import Link
from common.transfer.messages import DeviceMemory, Offer, PageRun, SameHostInvitation
from common.transfer.plan import split
from common.transfer.same_host.device import DeviceSendingEnd, adopt_slots
from common.transfer.same_host.line import Line
from common.transfer.same_host.ring import adopt_ring, create_ring
from common.transfer.same_host.sending import SendingEnd
from common.transfer.scope import TaskScope
from kernels.bench.ceilings import measured_ceilings
from kernels.dispatch import interpreted
from tests.gpu.part import NO_GPU, conditions, part_device, part_parser, tell
from tests.gpu.two_ends import MIB, PAIR, WAIT_S, End, Shape, Words, places

ROOT = Path(__file__).resolve().parents[2]
FRAMES_MIB = (8, 32, 128, 256)
REPEATS = 5


class PipePeer:
    """The one call of a Peer that a link makes for a run, and the one at its end."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._accepted: dict[int, asyncio.Future[None]] = {}
        self._landed: dict[int, asyncio.Future[bool]] = {}
        self._equal: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._hearing = asyncio.get_running_loop().create_task(self._hear())

    async def offer(self, offer: Offer, *, timeout_s: float) -> None:
        loop, run = asyncio.get_running_loop(), offer.run
        accepted = self._accepted[offer.frame] = loop.create_future()
        self._landed[run.first_page] = loop.create_future()
        word = {"frame": offer.frame, "first": run.first_page, "num": run.num_pages, "digests": offer.digests.hex()}
        self._words.say(word)
        async with asyncio.timeout(timeout_s):
            await accepted

    async def leave(self, *_: object, **__: object) -> None:
        return

    async def wait_landed(self, run: PageRun) -> bool:
        """Whether it was whole."""
        return await self._landed[run.first_page]

    async def compare(self) -> bool:
        """Does the other end have what this one has?"""
        self._equal = asyncio.get_running_loop().create_future()
        self._words.say({"compare": True})
        async with asyncio.timeout(WAIT_S):
            return await self._equal

    async def _hear(self) -> None:
        while (word := await self._words.hear()) is not None:
            if "equal" in word:
                self._equal.set_result(word["equal"])
            elif "accepted" in word:
                self._accepted.pop(word["accepted"]).set_result(None)
            else:
                self._landed[word["landed"]].set_result(word["is_whole"])


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
        channel = DeviceSendingEnd(SendingEnd(ring, Line(line, PAIR)), slots)
        async with TaskScope(counters := TransferCounters()) as scope:
            sender = Sender(shape, end, _link(channel, shape, end, peer, counters, scope), peer)
            largest = shape.slot_bytes
            found: dict[str, object] = {
                "pages_arrive": await sender.hand_over(largest) and await peer.compare(),
                "other_digests_are_found": not await sender.hand_over(largest, corrupt=True),
            }
            if all(found.values()) and not is_small:
                found |= conditions(device) | await timed(sender, shape, device)
            await channel.close()
        return found


async def timed(sender: Sender, shape: Shape, device: torch.device) -> dict[str, object]:
    num_bytes = shape.num_pages * shape.layout.page_bytes
    bound_s = 2 * num_bytes / measured_ceilings(device, REPEATS).bytes_per_s
    found: dict[str, object] = {"mib": num_bytes // MIB, "one_copy_ms": bound_s * 1e3}
    for mib in FRAMES_MIB:
        seconds = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            await sender.hand_over(mib * MIB)
            seconds.append(time.perf_counter() - began)
        took_s = median(seconds)
        found[f"frames_of_{mib}_mib"] = {
            "ms": took_s * 1e3,
            "share_of_one_copy": bound_s / took_s,
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
        digest_key=DigestKey(bytes(range(32))),
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
    return 0 if found["pages_arrive"] and found["other_digests_are_found"] else 1


if __name__ == "__main__":
    sys.exit(main())
