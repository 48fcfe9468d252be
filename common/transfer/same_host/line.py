"""The words beside the ring: fixed-size messages over a socket of this host, read as they come.

The kernel closes the socket of a process that ends, however it ends: the other end hears of it at once.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeVar

from common.core.errors import Reason, TransferFailed
from common.transfer.messages import Pair

Value = TypeVar("Value")

WORD = struct.Struct("<IIQQQ")  # kind, slot, generation, frame, bytes
READ_BYTES = 256 * WORD.size


class WordKind(IntEnum):
    """What a word says of a slot: the sender's FULL, then the receiver's TAKEN and RELEASED."""

    FULL = 1
    TAKEN = 2
    RELEASED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One message about one slot."""

    kind: WordKind
    slot: int
    generation: int
    frame: int
    num_bytes: int


class Line:
    """One end. Writer: the event loop. It ends once, for one reason, and stays ended."""

    def __init__(self, connection: socket.socket, pair: Pair) -> None:
        """`connection` is connected, does not block, and belongs to the line from here on."""
        self.pair = pair
        self.is_ended = False
        self._why = ""
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._hear: Callable[[Word], None] | None = None
        self._rest = b""

    def listen(self, hear: Callable[[Word], None]) -> None:
        """From here on `hear` gets every word, in order. It raises TransferFailed for one that makes no sense."""
        self._hear = hear
        self._loop.add_reader(self._connection.fileno(), self._read)

    def say(self, word: Word) -> None:
        """Raises TransferFailed when the line is over. Never waits: fewer words are under way than the socket holds."""
        self.check()
        try:
            sent = self._connection.send(WORD.pack(word.kind, word.slot, word.generation, word.frame, word.num_bytes))
        except OSError as error:
            self.end(f"the other end is gone: {error.strerror}")
        else:
            if sent == WORD.size:
                return
            self.end("the other end does not listen")
        self.check()

    def end(self, why: str) -> None:
        """Closes the socket; whoever waits is told. Idempotent."""
        if self.is_ended:
            return
        self.is_ended = True
        self._why = why
        if self._hear is not None:
            self._loop.remove_reader(self._connection.fileno())
            self._hear = None
        self._connection.close()
        self._ended.set_result(None)

    async def wait_ended(self) -> None:
        """Until it is over, for whatever reason."""
        await asyncio.wait({self._ended})  # bounded: a line ends with its pair, at the latest when that is closed

    def check(self) -> None:
        if self.is_ended:
            raise TransferFailed(message=f"{self.pair} is over: {self._why}", reason=Reason.CHANNEL_BROKEN)

    async def wait(self, what: "asyncio.Future[Value]") -> Value:
        """The future's value, or TransferFailed once the line is over. The caller brings the deadline."""
        either: set[asyncio.Future[Any]] = {what, self._ended}
        if not what.done():
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)  # bounded: the caller's deadline
        if not what.done():
            self.check()
        return what.result()

    def _read(self) -> None:
        try:
            data = self._connection.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self.end(f"the other end is gone: {error.strerror}")
            return
        if not data:
            self.end("the other end closed")
            return
        self._rest += data
        try:
            self._hear_all()
        except TransferFailed as error:
            self.end(error.message)

    def _hear_all(self) -> None:
        whole = len(self._rest) - len(self._rest) % WORD.size
        words, self._rest = self._rest[:whole], self._rest[whole:]
        for kind, slot, generation, frame, num_bytes in WORD.iter_unpack(words):
            if kind not in WordKind.__members__.values():
                raise TransferFailed(message=f"word of unknown kind {kind}", reason=Reason.CHANNEL_BROKEN)
            if self._hear is not None:
                self._hear(
                    Word(kind=WordKind(kind), slot=slot, generation=generation, frame=frame, num_bytes=num_bytes)
                )
