"""The event loop of every process: asyncio's, which hears of gRPC's completions in bulk.

gRPC's poller thread queues each completion and writes a byte to wake the loop. Its handler takes all that is queued,
but reads one byte: of 500 messages that end together the first wakes the loop for something and 499 for nothing, each a
turn with its system calls. Here all bytes but one are read first, so that one turn takes them all: a tenth less of a
server's processor time per message.

And the poller may run ahead by some twenty wakes only. Without that it is woken for each message while the loop writes
five hundred, to take one completion and sleep again: two changes of threads a message, a sixth of a router's
processor time. Stuck in its write it lets completions gather in gRPC's own queue until the loop turns to them. A loop
that has nothing else to do reads each wake as it comes, so nobody waits for this.

And a name is looked up once at a time, whoever asks meanwhile. A look-up that hangs, as all do while DNS is away, keeps
its thread for as long as the system is patient, and whoever gave up asks again: a moment later all threads of the loop
would wait for one name, and with them pages that are copied there, and every scrape.
"""

import array
import asyncio
import fcntl
import gc
import socket
import termios
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVarTuple

Told = TypeVarTuple("Told")
Question = tuple[bytes | str | None, bytes | str | int | None, int, int, int, int]
"""What is looked up: host, port, family, type, protocol, flags."""

GRPC_HANDLER = "PollerCompletionQueue"
"""Type whose method gRPC registers. Under another name completions come one by one: slower, and as correct."""

WAKES_BYTES = 8192
"""Of the wakes' socket: some twenty of them as Linux counts. Measured: with six the turns cost what the changes of
threads did, with two hundred and eighty (as it comes) the poller is hardly ever stuck."""
ROOMY_BYTES = 106_496
"""As it comes."""


class EventLoop(asyncio.SelectorEventLoop):
    """For `asyncio.Runner(loop_factory=EventLoop)`."""

    def __init__(self) -> None:
        super().__init__()
        self._pollers: dict[socket.socket, Callable[..., Any]] = {}
        """gRPC's handlers by the sockets that wake this loop for them."""
        self._lookups: dict[Question, asyncio.Task[Any]] = {}
        """Names that are being looked up."""

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002  # asyncio's name for it
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """As asyncio's. Whoever gives up leaves the question to those who ask after it."""
        question = (host, port, family, type, proto, flags)
        lookup = self._lookups.get(question)
        if lookup is None:
            asking = super().getaddrinfo(host, port, family=family, type=type, proto=proto, flags=flags)
            lookup = self._lookups[question] = self.create_task(asking, name=f"look up {host!r}")
            lookup.add_done_callback(partial(self._looked_up, question))
        return await asyncio.shield(lookup)

    def _looked_up(self, question: "Question", lookup: "asyncio.Task[Any]") -> None:
        del self._lookups[question]
        if not lookup.cancelled():
            lookup.exception()  # nobody may be waiting any more

    def add_reader(self, fd: Any, callback: Callable[[*Told], Any], *args: *Told) -> None:
        """As asyncio's. What gRPC registers is called once for all the bytes that came."""
        if is_grpc_handler(callback) and isinstance(fd, socket.socket):
            resize_wakes(callback, fd, WAKES_BYTES)
            self._pollers[fd] = callback
            super().add_reader(fd, partial(take_all, fd, partial(callback, *args)))
        else:
            super().add_reader(fd, callback, *args)

    def remove_reader(self, fd: Any) -> bool:
        """As asyncio's. A poller that this loop leaves is not left stuck: gRPC waits for it when it shuts down."""
        if (callback := self._pollers.pop(fd, None)) is not None:
            set_free(callback, fd)
        return super().remove_reader(fd)

    def close(self) -> None:
        for fd, callback in self._pollers.items():
            set_free(callback, fd)
        self._pollers.clear()
        super().close()


def is_grpc_handler(callback: Callable[..., Any]) -> bool:
    """Whether this is the method, bound to its loop, by which gRPC takes completions from its queue."""
    return type(_owner(callback)).__name__ == GRPC_HANDLER


def _owner(callback: Callable[..., Any]) -> object:
    return getattr(getattr(callback, "func", None), "__self__", None)


def resize_wakes(callback: Callable[..., Any], wakes: socket.socket, num_bytes: int) -> bool:
    """How far gRPC's poller may run ahead of whoever reads `wakes`. False where the socket that it writes to is not
    found, and stays as it is."""
    held = [each for each in gc.get_referents(_owner(callback)) if isinstance(each, socket.socket)]
    written = [each for each in held if each is not wakes and each.fileno() >= 0]
    for each in written:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, num_bytes)
    return bool(written)


def set_free(callback: Callable[..., Any], wakes: socket.socket) -> None:
    """Nobody reads `wakes` from now on, perhaps: the poller has its room back, and what it is stuck in ends."""
    resize_wakes(callback, wakes, ROOMY_BYTES)
    with suppress(OSError):  # nothing to read, or closed
        wakes.recv(ROOMY_BYTES)


def take_all(wakes: socket.socket, handle: Callable[[], object]) -> None:
    """Reads all wakes but one, then has `handle` read that, and take what is queued.

    A byte is written behind its completion, so whatever the bytes stand for is queued by now.
    """
    num_wakes = array.array("i", [0])
    fcntl.ioctl(wakes.fileno(), termios.FIONREAD, num_wakes)
    if num_wakes[0] > 1:
        with suppress(BlockingIOError):  # another loop of this process reads them as well
            wakes.recv(num_wakes[0] - 1)
    handle()
