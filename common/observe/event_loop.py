"""The event loop of every process: asyncio's, which hears of gRPC's completions in bulk.

gRPC's poller thread queues each completion and writes a byte to wake the loop. Its handler takes all that is queued,
but reads one byte: of 500 messages that end together the first wakes the loop for something and 499 for nothing, each a
turn with its system calls. Here all bytes but one are read first, so that one turn takes them all: a tenth less of a
server's processor time per message.

And the poller may run ahead by some twenty wakes only. Without that it is woken for each message while the loop writes
five hundred, to take one completion and sleep again: two changes of threads a message, a sixth of a router's
processor time. Stuck in its write it lets completions gather in gRPC's own queue until the loop turns to them. A loop
that has nothing else to do reads each wake as it comes, so nobody waits for this. Where a few messages are written, and
no twenty, the one who writes them says so: `writing`.

And a name is looked up once at a time, whoever asks meanwhile. A look-up that hangs, as all do while DNS is away, keeps
its thread for as long as the system is patient, and whoever gave up asks again: a moment later all threads of the loop
would wait for one name, and with them pages that are copied there, and every scrape.
"""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVarTuple

from common.observe.pollers import Poller, take_all

Told = TypeVarTuple("Told")
Question = tuple[bytes | str | None, bytes | str | int | None, int, int, int, int]
"""What is looked up: host, port, family, type, protocol, flags."""

GRPC_HANDLER = "PollerCompletionQueue"
"""Type whose method gRPC registers. Under another name completions come one by one: slower, and as correct."""

MANY_WRITES = 4
"""Chosen: to hold the poller takes what two messages do that wake it."""


class EventLoop(asyncio.SelectorEventLoop):
    """For `asyncio.Runner(loop_factory=EventLoop)`."""

    def __init__(self) -> None:
        super().__init__()
        self._pollers: dict[socket.socket, Poller] = {}
        """By the sockets that wake this loop for them."""
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
            poller = self._pollers[fd] = Poller(fd, _owner(callback))
            poller.limit()
            super().add_reader(fd, partial(take_all, fd, partial(callback, *args)))
        else:
            super().add_reader(fd, callback, *args)

    def remove_reader(self, fd: Any) -> bool:
        """As asyncio's. A poller that this loop leaves is not left stuck: gRPC waits for it when it shuts down."""
        if (poller := self._pollers.pop(fd, None)) is not None:
            poller.set_free()
        return super().remove_reader(fd)

    def close(self) -> None:
        for poller in self._pollers.values():
            poller.set_free()
        self._pollers.clear()
        super().close()

    @contextmanager
    def writing_many(self) -> Iterator[None]:
        """A block that hands many messages to gRPC, and waits for nothing: its poller wakes for all of them at once."""
        pollers = tuple(self._pollers.values())
        for poller in pollers:
            poller.hold()
        try:
            yield
        finally:
            for poller in pollers:
                poller.let_go()


@contextmanager
def writing(num_messages: int) -> Iterator[None]:
    """`EventLoop.writing_many` where so many messages are worth it, on any loop."""
    loop = asyncio.get_running_loop()
    if num_messages < MANY_WRITES or not isinstance(loop, EventLoop):
        yield
        return
    with loop.writing_many():
        yield


def is_grpc_handler(callback: Callable[..., Any]) -> bool:
    """Whether this is the method, bound to its loop, by which gRPC takes completions from its queue."""
    return type(_owner(callback)).__name__ == GRPC_HANDLER


def _owner(callback: Callable[..., Any]) -> object:
    return getattr(getattr(callback, "func", None), "__self__", None)
