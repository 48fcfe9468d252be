"""The thread of one pair, for channels whose calls block.

             event loop                      pair thread
open     --- start ------------------------> build the group; its store calls come back to the event loop
send     --- put in the queue -------------> the group's blocking call
close    --- put in the queue -------------> drop the group: sockets closed, the peer's calls fail; end
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from common.core.errors import Reason, TransferFailed
from common.transfer.messages import Pair

Group = TypeVar("Group")
Result = TypeVar("Result")

MAX_QUEUED = 64
"""Chosen: a pair has one frame in the air, and at a receiver those that were announced behind it."""
NEARLY = 0.9
"""Of its time: a library that fails so late has waited for the other end, like us, and saw its deadline first."""


@dataclass(frozen=True, slots=True)
class _Call(Generic[Group]):
    """One call of the channel, as the thread sees it."""

    work: Callable[[Group], None]
    done: "asyncio.Future[None]"


class PairThread(Generic[Group]):
    """Owns one group from its making to its end. The first call that fails is the last: the rest fail with it.

    It ends at the latest when the call it is in, or the opening, reaches its own deadline. Calls fail with RuntimeError
    and with nothing else. A group that is made after its opening was given up goes to `discard`, on the thread.
    """

    def __init__(
        self, name: str, pair: Pair, build: Callable[[], Group], discard: Callable[[Group], None] | None = None
    ) -> None:
        self._pair = pair
        self._build = build
        self._discard = discard
        self._is_given_up = False
        self._timeout_s = 0.0
        self._calls: queue.Queue[_Call[Group] | None] = queue.Queue(maxsize=MAX_QUEUED + 1)
        self._loop = asyncio.get_running_loop()
        self.group: Group | None = None
        """Once `opened`, until the thread ends: for what another thread may do to it, which is little."""
        self.opened: asyncio.Future[None] = self._loop.create_future()
        self.opened.add_done_callback(_retrieve)  # whoever waited may have left: shielded, it would be logged as lost
        self.ended: asyncio.Future[None] = self._loop.create_future()
        # Daemon: a process that is told to exit does not wait for a peer's deadline.
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    async def open(self, timeout_s: float) -> None:
        """Starts it and waits until the group is made. Raises TransferFailed, and then the thread ends by itself: a
        library may try longer than we wait, and nobody waits for that."""
        self._timeout_s = timeout_s
        self._thread.start()
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(self.opened)
        except TimeoutError:
            self._give_up()
            message = f"{self._pair} did not open within {timeout_s} s"
            raise TransferFailed(message=message, reason=Reason.TRANSFER_TIMEOUT) from None
        except asyncio.CancelledError:
            self._give_up()
            raise

    def submit(self, work: Callable[[Group], None], done: "asyncio.Future[None]") -> None:
        """Raises RuntimeError when the thread is over or too many calls wait."""
        if self.ended.done() or self._calls.qsize() >= MAX_QUEUED:
            raise RuntimeError("the pair thread is over" if self.ended.done() else f"{MAX_QUEUED} calls wait")
        self._calls.put_nowait(_Call(work, done))

    def stop(self) -> None:
        """End after the call that is running. Idempotent."""
        if not self._calls.full():
            self._calls.put_nowait(None)

    def _give_up(self) -> None:
        self._is_given_up = True
        self.stop()

    def _main(self) -> None:
        try:
            self._serve()
        finally:
            self.group = None
            self._post(self._finish)

    def _serve(self) -> None:
        begun = self._loop.time()
        try:
            group = self.group = self._build()
        except Exception as error:  # noqa: BLE001  # a library's own: whoever opens must hear of it, whatever it is
            is_late = isinstance(error, TimeoutError) or self._loop.time() - begun >= NEARLY * self._timeout_s
            reason = Reason.TRANSFER_TIMEOUT if is_late else Reason.CHANNEL_BROKEN
            message = f"{self._pair} did not open: {first_line(error) or type(error).__name__}"
            self._post(_fail, self.opened, TransferFailed(message=message, reason=reason))
            return
        self._post(_resolve, self.opened)
        while (call := self._calls.get()) is not None:  # bounded: ends with `close`, which posts None
            try:
                call.work(group)
            except RuntimeError as error:
                self._post(_fail, call.done, RuntimeError(first_line(error)))
                return
            self._post(_resolve, call.done)
        if self._is_given_up and self._discard is not None:
            self._discard(group)

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


def run_aside(work: Callable[[], Result], name: str) -> "asyncio.Future[Result]":
    """On a thread of its own, which may hang for ever and keeps nobody from exiting. The future has its result."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Result] = loop.create_future()
    ended.add_done_callback(_retrieve)  # whoever waited may have left

    def post(function: Callable[..., None], outcome: object) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(function, ended, outcome)

    def main() -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001  # it is the waiter's, whatever it is
            post(_fail, error)
        else:
            post(_succeed, result)

    threading.Thread(target=main, name=name, daemon=True).start()
    return ended


def first_line(error: BaseException) -> str:
    """What an outside library says, without its stack."""
    return str(error).partition("\n")[0][:200]


def _retrieve(future: "asyncio.Future[Any]") -> None:
    if not future.cancelled():
        future.exception()


def _resolve(future: "asyncio.Future[None]") -> None:
    _succeed(future, None)


def _succeed(future: "asyncio.Future[Any]", result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: "asyncio.Future[Any]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
