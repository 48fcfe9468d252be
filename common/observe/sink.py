"""Where log lines go. A line that cannot be written is lost and counted; nobody fails or waits for it.

A full disk, a limit on the size of files and a terminal that is gone raise. A pipe whose reader has stopped blocks, and
with it the event loop: for ever. Neither may end, or hold up, what the process is there for.
"""

import os
import select
import threading
from typing import TextIO

PIPE_BYTES = 4096
"""What Linux lets into a pipe that is ready without blocking the writer."""

PATIENCE_S = 0.05
"""Chosen: a reader that runs empties a pipe in microseconds, on a busy machine in milliseconds. Only the first line
that is lost waits for so long; those behind it see at once whether there is room again."""


class Sink:
    """A text stream for loggers, over the stream that has the bytes. Any thread may write.

    A line of which only a part was taken is ended before the next one, so that lines stay lines.
    """

    def __init__(self, stream: TextIO | None, *, patience_s: float = PATIENCE_S) -> None:
        """`stream` None: the process was started without one, and everything is lost."""
        self._stream = stream
        self._file = _descriptor(stream)
        self._patience_ms = 1000 * patience_s
        self._lock = threading.Lock()
        self._is_torn = False
        self._is_stuck = False
        self.num_lost = 0
        """Lines that were not written, or not whole."""

    def write(self, text: str) -> int:
        """One line or several, with their ends."""
        with self._lock:
            try:
                self._write(text)
            except (OSError, ValueError):  # ValueError: of a closed stream
                self.num_lost += 1
                self._is_stuck = True
            else:
                self._is_stuck = False
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back here."""

    def _write(self, text: str) -> None:
        if self._file is not None:
            self._put(self._file, text.encode("utf-8", "backslashreplace"))
        elif self._stream is not None:
            self._stream.write(text)
            self._stream.flush()
        else:
            raise BrokenPipeError

    def _put(self, file: int, line: bytes) -> None:
        rest = memoryview(b"\n" + line if self._is_torn else line)
        while rest:
            if not self._has_room(file):
                raise BlockingIOError
            rest = rest[os.write(file, rest[:PIPE_BYTES]) :]
            self._is_torn = bool(rest)

    def _has_room(self, file: int) -> bool:
        """Always true of a regular file."""
        poll = select.poll()
        poll.register(file, select.POLLOUT)
        return bool(poll.poll(0 if self._is_stuck else self._patience_ms))


def _descriptor(stream: TextIO | None) -> int | None:
    """None: it is in memory, or is none."""
    try:
        return None if stream is None else stream.fileno()
    except (OSError, ValueError):
        return None
