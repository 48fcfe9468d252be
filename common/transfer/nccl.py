"""The GPU data plane between hosts: one two-rank NCCL communicator per pair, on a thread and a stream of its own.

This file is bookkeeping and imports everywhere; what touches torch is behind `CommunicatorMaker` in nccl_group.py.

NCCL does not time out and does not say when its peer is gone. So every call has a deadline here, after which the
communicator is aborted from another thread: that is the one way to free a stream that waits. An abort that hangs leaves
a thread and a stream nobody can free: the process ends with STUCK_STATUS and its supervisor starts another. Liveness
comes from gRPC: each sender keeps one call waiting in the receiver's rendezvous store, the tether. It is answered when
the receiver leaves, it breaks when the receiver dies, and the receiver's store notices when the sender no longer waits.

A communicator takes 50 to 100 MB of device memory: at most `max_pairs` per direction are open, idle ones go first.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from common.core.errors import Reason, TransferFailed
from common.kv.span import DeviceSpan
from common.transfer.channel import Channel, Side
from common.transfer.messages import HostFacts, Pair
from common.transfer.pair_thread import PairThread, first_line, run_aside
from common.transfer.reach import nccl_misfit
from common.transfer.rendezvous import LOST, RendezvousStore
from common.transfer.scope import outlast

ABORT_S = 5.0
"""Chosen: an abort takes a fraction of a second where it works at all."""
STUCK_STATUS = 71
"""Exit status of a process whose communicator could not be aborted."""
MAX_OPENING = 16
"""Chosen: openings at a time. One that hangs in the library keeps its thread; beyond, another channel is taken."""
TETHER = "nccl/receiver_left"
TETHER_S = 10.0
"""One wait in the store; then the next. Below its ceiling for a single wait."""

Frame = memoryview | DeviceSpan


class Communicator(Protocol):
    """One end of a two-rank communicator. Calls block, on the pair's thread, and raise RuntimeError."""

    num_bytes: int
    """Device memory that it took, as measured when it was made."""

    def send(self, data: Frame) -> None: ...

    def receive(self, out: Frame) -> None: ...

    def abort(self) -> None:
        """From any thread: frees whoever is in a call, which then raises."""
        ...


class CommunicatorMaker(Protocol):
    """Makes one end. Called on the pair's thread; raises RuntimeError or TimeoutError, within `timeout_s`."""

    def __call__(
        self, rank: int, store: RendezvousStore, loop: asyncio.AbstractEventLoop, *, timeout_s: float
    ) -> Communicator: ...


class NcclFactory:
    """Opens communicators. Writer of what it counts: the event loop."""

    name = "nccl"

    def __init__(
        self,
        make: CommunicatorMaker,
        *,
        max_pairs: int,
        die: Callable[[int], None],
        host: HostFacts | None = None,
    ) -> None:
        """`die` ends the process at once, with the status it is given. `host` is where this end runs."""
        self.max_pairs: int | None = max_pairs
        self.num_open = 0
        self.num_bytes = 0
        """Device memory of all open communicators."""
        self._make = make
        self._die = die
        self._host = host
        self._num_opening = 0

    def misfit(self, there: HostFacts | None) -> str:
        return nccl_misfit(sender=there, receiver=self._host)

    async def open(self, pair: Pair, side: Side, store: RendezvousStore, *, timeout_s: float) -> Channel:
        loop = asyncio.get_running_loop()
        rank = 0 if side is Side.SENDER else 1

        def build() -> Communicator:
            return self._make(rank, store, loop, timeout_s=timeout_s)

        # Made too late, it is aborted: to let go of it would wait for the other end, or leave its memory taken.
        thread = PairThread[Communicator](f"nccl {side} {pair}", pair, build, discard=_abort)
        if self._num_opening >= MAX_OPENING:
            message = f"{pair}: {self._num_opening} openings have not ended, whether given up or not"
            raise TransferFailed(message=message, reason=Reason.CHANNEL_BROKEN)
        self._num_opening += 1
        thread.opened.add_done_callback(self._opening_ended)  # by the thread, also long after it was given up
        await thread.open(timeout_s)
        channel = NcclChannel(pair, side, thread, store, self)
        channel.watch()
        return channel

    def opened(self, num_bytes: int) -> None:
        self.num_open += 1
        self.num_bytes += num_bytes

    def closed(self, num_bytes: int) -> None:
        self.num_open -= 1
        self.num_bytes -= num_bytes

    def _opening_ended(self, _: "asyncio.Future[None]") -> None:
        self._num_opening -= 1

    def give_up(self) -> None:
        """An abort hangs: nothing in this process can be trusted to end any more."""
        self._die(STUCK_STATUS)


class NcclChannel:
    """One end. Writer: the event loop. Frames have no tags in NCCL: the link's order is theirs, checked by number."""

    def __init__(
        self,
        pair: Pair,
        side: Side,
        thread: PairThread[Communicator],
        store: RendezvousStore,
        factory: NcclFactory,
    ) -> None:
        assert thread.group is not None, f"{pair} is not open"
        self._pair = pair
        self._side = side
        self._thread = thread
        self._communicator = thread.group
        self._store = store
        self._factory = factory
        self._next_frame = 0
        self._why = ""
        self._ending: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        factory.opened(self._communicator.num_bytes)

    def watch(self) -> None:
        """Holds the tether until the channel ends."""
        work = self._watch_receiver() if self._side is Side.SENDER else self._watch_sender()
        self._watching = asyncio.get_running_loop().create_task(work, name=f"tether {self._pair}")

    async def send(self, frame: int, data: memoryview, *, timeout_s: float) -> None:
        await self._run(frame, lambda group: group.send(data), f"sending frame {frame}", timeout_s)

    async def receive(self, frame: int, out: memoryview, *, timeout_s: float) -> None:
        await self._run(frame, lambda group: group.receive(out), f"receiving frame {frame}", timeout_s)

    async def send_device(self, frame: int, data: DeviceSpan, *, timeout_s: float) -> None:
        await self._run(frame, lambda group: group.send(data), f"sending frame {frame}", timeout_s)

    async def receive_device(self, frame: int, out: DeviceSpan, *, timeout_s: float) -> None:
        await self._run(frame, lambda group: group.receive(out), f"receiving frame {frame}", timeout_s)

    async def close(self) -> None:
        await self._end("closed here")

    async def _run(self, frame: int, work: Callable[[Communicator], None], what: str, timeout_s: float) -> None:
        """Returns or raises only when neither the thread nor the device holds the buffer."""
        if self._ending is not None:
            raise TransferFailed(message=f"{self._pair} is over: {self._why}", reason=Reason.CHANNEL_BROKEN)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Retrieved: after a deadline the end of the call is no news.
        done.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            self._check_order(frame)
            self._thread.submit(work, done)
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(done)
        except TimeoutError:
            await self._end(f"{what} took over {timeout_s} s")
            raise TransferFailed(message=f"{self._pair}: {self._why}", reason=Reason.TRANSFER_TIMEOUT) from None
        except asyncio.CancelledError:
            await self._end(f"{what} was cancelled")
            raise
        except RuntimeError as error:
            await self._end(f"{what} failed: {first_line(error)}")
            raise TransferFailed(message=f"{self._pair}: {self._why}", reason=Reason.CHANNEL_BROKEN) from None

    def _check_order(self, frame: int) -> None:
        """Raises RuntimeError: a frame out of order would be taken for another one."""
        if frame != self._next_frame:
            raise RuntimeError(f"frame {frame} is not the next, {self._next_frame}")
        self._next_frame += 1

    async def _end(self, why: str) -> None:
        """Whoever comes later waits for the same end."""
        self._begin_end(why)
        assert self._ending is not None
        await outlast(self._ending)

    def _begin_end(self, why: str) -> None:
        if self._ending is None:
            self._why = why
            self._ending = asyncio.get_running_loop().create_task(self._wind_up(), name=f"end {self._pair}")

    async def _wind_up(self) -> None:
        """Abort, which frees the thread; the other end hears of it through the tether."""
        self._thread.stop()
        if self._watching is not None:
            self._watching.cancel()
        try:
            async with asyncio.timeout(ABORT_S):
                # Also when nobody is in a call: to destroy a communicator in good order takes both ends.
                await run_aside(lambda: _abort(self._communicator), f"abort {self._pair}")
                await asyncio.shield(self._thread.ended)
        except TimeoutError:
            self._factory.give_up()
        self._factory.closed(self._communicator.num_bytes)
        if self._side is Side.RECEIVER:
            await self._say_left()

    async def _say_left(self) -> None:
        try:
            await self._store.put(TETHER, b"")
        except TransferFailed:
            # The pair's store is closed already: the sender's wait ended with it.
            return

    async def _watch_receiver(self) -> None:
        """The sender's end of the tether: an answer, or an error, is the end."""
        try:
            while await self._store.get(TETHER, wait_s=TETHER_S) is None:
                continue
        except Exception as error:  # noqa: BLE001  # whatever breaks the tether ends the pair, and nothing else
            self._begin_end(f"the receiver is gone: {first_line(error)}")
        else:
            self._begin_end("the receiver left")

    async def _watch_sender(self) -> None:
        """The receiver's: the store notices when the sender waits no more."""
        try:
            while await self._store.get(TETHER + LOST, wait_s=TETHER_S) is None:
                continue
        except TransferFailed as error:
            self._begin_end(f"the pair is over: {error.message}")
        else:
            self._begin_end("the sender is gone")


def _abort(communicator: Communicator) -> None:
    with suppress(RuntimeError):  # an end like any other
        communicator.abort()
