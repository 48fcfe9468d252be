"""The CPU data plane: one two-rank gloo group per pair, without a default group, on a thread of its own.

What was measured of gloo shapes this file. A frame whose two ends differ in size aborts the process: sizes are agreed
before. A call that timed out has killed its group: nothing is tried again. `abort` does not wake a waiting receive: a
closed channel's thread ends at the deadline of the call it is in. A Python store works, but not inside a PrefixStore:
the prefix is in the keys. Given an address, the device listens on that address alone.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from torch.distributed import ProcessGroupGloo

from common.core.errors import Reason, TransferFailed
from common.transfer.channel import Channel, Side
from common.transfer.gloo_store import StoreBridge
from common.transfer.messages import HostFacts, Pair
from common.transfer.pair_thread import PairThread, first_line
from common.transfer.rendezvous import RendezvousStore
from common.transfer.scope import outlast

Group = Any
"""A ProcessGroupGloo: torch's own annotations leave out what is used of it here."""
Work = Callable[[Group], None]

RANKS = {Side.SENDER: 0, Side.RECEIVER: 1}


class GlooFactory:
    """Opens pairs whose sockets are bound to `address`: the data plane is neither encrypted nor authenticated."""

    name = "gloo"
    max_pairs: int | None = None

    def __init__(self, address: str = "127.0.0.1") -> None:
        self._address = address

    def misfit(self, there: HostFacts | None) -> str:
        return ""

    async def open(self, pair: Pair, side: Side, store: RendezvousStore, *, timeout_s: float) -> Channel:
        bridge = StoreBridge(store, asyncio.get_running_loop(), prefix=self.name, timeout_s=timeout_s)

        def build() -> Group:
            return _build(bridge, RANKS[side], self._address, timedelta(seconds=timeout_s))

        thread = PairThread[Group](f"gloo {side} {pair}", pair, build)
        await thread.open(timeout_s)  # gloo itself tries five times as long
        return GlooChannel(pair, side, thread)


class GlooChannel:
    """One end. Writer: the event loop; the group belongs to the thread."""

    def __init__(self, pair: Pair, side: Side, thread: PairThread[Group]) -> None:
        self._pair = pair
        self._peer = 1 - RANKS[side]
        self._thread = thread
        self._is_closed = False
        self._num_pending = 0

    async def send(self, frame: int, data: memoryview, *, timeout_s: float) -> None:
        limit = timedelta(seconds=timeout_s)

        def work(group: Group) -> None:
            group.send([torch.frombuffer(data, dtype=torch.uint8)], self._peer, frame).wait(limit)

        await self._run(work, f"sending frame {frame}", timeout_s)

    async def receive(self, frame: int, out: memoryview, *, timeout_s: float) -> None:
        limit = timedelta(seconds=timeout_s)

        def work(group: Group) -> None:
            group.recv([torch.frombuffer(out, dtype=torch.uint8)], self._peer, frame).wait(limit)

        await self._run(work, f"receiving frame {frame}", timeout_s)

    async def close(self) -> None:
        """An idle thread is waited for; a busy one ends at the deadline of its call, which its caller waits for."""
        if self._is_closed:
            return
        self._is_closed = True
        self._thread.stop()
        if self._num_pending == 0:
            await outlast(self._thread.ended)

    async def _run(self, work: Work, what: str, timeout_s: float) -> None:
        """Returns or raises only when the thread no longer holds the buffer."""
        if self._is_closed:
            raise TransferFailed(message=f"{self._pair} is closed", reason=Reason.CHANNEL_BROKEN)
        loop = asyncio.get_running_loop()
        started = loop.time()
        done: asyncio.Future[None] = loop.create_future()
        self._num_pending += 1
        try:
            self._thread.submit(work, done)
            await outlast(done)
        except RuntimeError as error:
            self._is_closed = True
            self._thread.stop()
            is_late = loop.time() - started >= timeout_s
            reason = Reason.TRANSFER_TIMEOUT if is_late else Reason.CHANNEL_BROKEN
            raise TransferFailed(message=f"{self._pair}: {what} failed: {first_line(error)}", reason=reason) from None
        finally:
            self._num_pending -= 1
            del done  # see `outlast`


def _build(store: StoreBridge, rank: int, address: str, timeout: timedelta) -> Group:
    """Raises RuntimeError when the other end does not come."""
    make: Any = ProcessGroupGloo
    options = make._Options()
    # Not lazy: a lazy connection may ignore its timeout.
    options._devices = [make.create_device(hostname=address, lazy_init=False)]
    options._timeout = timeout
    options._threads = 1  # Derived: send and receive run on the caller's thread; one is gloo's minimum.
    return make(store, rank, len(RANKS), options)
