"""The CPU data plane: one two-rank gloo group per pair, without a default group, on a thread of its own.

                 event loop                      pair thread
    open     --- start ------------------------> build the group; its store calls come back to the event loop
    send     --- put in the queue -------------> group.send(...).wait(timeout)
    close    --- put in the queue -------------> drop the group: sockets closed, the peer's calls fail; end

What was measured of gloo shapes this file. A frame whose two ends differ in size aborts the process: sizes are agreed
before. A call that timed out has killed its group: nothing is tried again. `abort` does not wake a waiting receive: a
closed channel's thread ends at the deadline of the call it is in. A Python store works, but not inside a PrefixStore:
the prefix is in the keys. Given an address, the device listens on that address alone.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch._C._distributed_c10d import Store
from torch.distributed import ProcessGroupGloo

from common.core.errors import BatonError, Reason, TransferFailed
from common.transfer.channel import Channel, Side
from common.transfer.messages import HostFacts, Pair
from common.transfer.rendezvous import RendezvousStore
from common.transfer.scope import outlast

Result = TypeVar("Result")
Group = Any
"""A ProcessGroupGloo: torch's own annotations leave out what is used of it here."""
Work = Callable[[Group, int], None]

RANKS = {Side.SENDER: 0, Side.RECEIVER: 1}
MAX_QUEUED = 64
"""Chosen: a pair has one frame in the air, rarely a second one waiting."""


class GlooFactory:
    """Opens pairs whose sockets are bound to `address`: the data plane is neither encrypted nor authenticated."""

    name = "gloo"

    def __init__(self, address: str = "127.0.0.1") -> None:
        self._address = address

    def misfit(self, there: HostFacts | None) -> str:
        return ""

    async def open(self, pair: Pair, side: Side, store: RendezvousStore, *, timeout_s: float) -> Channel:
        bridge = _StoreBridge(store, asyncio.get_running_loop(), timeout_s=timeout_s)
        thread = _PairThread(pair, side, self._address, bridge, timeout_s=timeout_s)
        thread.start()
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(thread.opened)
        except TimeoutError:
            # Gloo itself tries five times as long; the thread ends then, and nobody waits for it.
            thread.stop()
            message = f"{pair} did not open within {timeout_s} s"
            raise TransferFailed(message=message, reason=Reason.TRANSFER_TIMEOUT) from None
        except asyncio.CancelledError:
            thread.stop()
            raise
        return GlooChannel(pair, thread)


class GlooChannel:
    """One end. Writer: the event loop; the group belongs to the thread."""

    def __init__(self, pair: Pair, thread: "_PairThread") -> None:
        self._pair = pair
        self._thread = thread
        self._is_closed = False
        self._num_pending = 0

    async def send(self, frame: int, data: memoryview, *, timeout_s: float) -> None:
        limit = timedelta(seconds=timeout_s)

        def work(group: Group, peer: int) -> None:
            group.send([torch.frombuffer(data, dtype=torch.uint8)], peer, frame).wait(limit)

        await self._run(work, f"sending frame {frame}", timeout_s)

    async def receive(self, frame: int, out: memoryview, *, timeout_s: float) -> None:
        limit = timedelta(seconds=timeout_s)

        def work(group: Group, peer: int) -> None:
            group.recv([torch.frombuffer(out, dtype=torch.uint8)], peer, frame).wait(limit)

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
            raise TransferFailed(message=f"{self._pair}: {what} failed: {_first_line(error)}", reason=reason) from None
        finally:
            self._num_pending -= 1


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of the channel, as the thread sees it."""

    work: Work
    done: "asyncio.Future[None]"


class _PairThread:
    """Owns one group from its making to its end. The first call that fails is the last: the rest fail with it.

    It ends at the latest when the call it is in, or the opening, reaches its own deadline; then sockets are closed.
    """

    def __init__(self, pair: Pair, side: Side, address: str, store: "_StoreBridge", *, timeout_s: float) -> None:
        self._pair = pair
        self._rank = RANKS[side]
        self._address = address
        self._store = store
        self._timeout = timedelta(seconds=timeout_s)
        self._calls: queue.Queue[_Call | None] = queue.Queue(maxsize=MAX_QUEUED + 1)
        self._loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = self._loop.create_future()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        # Daemon: a process that is told to exit does not wait for a peer's deadline.
        self._thread = threading.Thread(target=self._main, name=f"gloo {side} {pair}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, work: Work, done: "asyncio.Future[None]") -> None:
        """Raises RuntimeError when the thread is over or too many calls wait."""
        if self.ended.done() or self._calls.qsize() >= MAX_QUEUED:
            raise RuntimeError("the pair thread is over" if self.ended.done() else f"{MAX_QUEUED} calls wait")
        self._calls.put_nowait(_Call(work, done))

    def stop(self) -> None:
        """End after the call that is running. Idempotent."""
        if not self._calls.full():
            self._calls.put_nowait(None)

    def _main(self) -> None:
        try:
            self._serve()
        finally:
            self._post(self._finish)

    def _serve(self) -> None:
        try:
            group = self._build()
        except (RuntimeError, TimeoutError) as error:
            failure = TransferFailed(
                message=f"{self._pair} did not open: {_first_line(error)}", reason=Reason.TRANSFER_TIMEOUT
            )
            self._post(_fail, self.opened, failure)
            return
        self._post(_resolve, self.opened)
        while (call := self._calls.get()) is not None:  # bounded: ends with `close`, which posts None
            try:
                call.work(group, 1 - self._rank)
            except RuntimeError as error:
                self._post(_fail, call.done, RuntimeError(_first_line(error)))
                return
            self._post(_resolve, call.done)

    def _build(self) -> Group:
        make: Any = ProcessGroupGloo
        options = make._Options()
        # Not lazy: a lazy connection may ignore its timeout.
        options._devices = [make.create_device(hostname=self._address, lazy_init=False)]
        options._timeout = self._timeout
        options._threads = 1  # Derived: send and receive run on the caller's thread; one is gloo's minimum.
        return make(self._store, self._rank, len(RANKS), options)

    def _post(self, function: Callable[..., None], *arguments: object) -> None:
        """Back to the event loop. A loop that is closed has nobody left to tell."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    def _finish(self) -> None:
        """On the event loop, after the group is gone: whoever still waits is told."""
        while not self._calls.empty():
            if (call := self._calls.get_nowait()) is not None:
                _fail(call.done, RuntimeError("the pair broke before this call"))
        _resolve(self.ended)


class _StoreBridge(Store):
    """torch's store interface over ours. Called on the pair thread, answered on the event loop."""

    def __init__(self, store: RendezvousStore, loop: asyncio.AbstractEventLoop, *, timeout_s: float) -> None:
        super().__init__()
        self._pair_store = store
        self._home = loop
        self._timeout_s = timeout_s

    def set(self, key: str, value: bytes) -> None:  # type: ignore[override]  # torch says str and passes bytes
        self._call(self._pair_store.put(f"gloo/{key}", bytes(value)))

    def get(self, key: str) -> bytes:
        value = self._call(self._pair_store.get(f"gloo/{key}", wait_s=self._timeout_s))
        if value is None:
            raise RuntimeError(f"the other end set no {key} within {self._timeout_s} s")
        return value

    def wait(self, keys: list[str], _timeout: timedelta | None = None) -> None:
        for key in keys:
            self.get(key)

    def _call(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Raises RuntimeError, the one error that passes through torch unharmed."""
        future = asyncio.run_coroutine_threadsafe(work, self._home)
        try:
            return future.result(self._timeout_s)
        except (BatonError, TimeoutError, CancelledError) as error:
            future.cancel()
            raise RuntimeError(f"rendezvous failed: {error}") from None


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _fail(future: "asyncio.Future[None]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200]
