"""Goal: a log that cannot be written holds up and ends nobody. Method: a full device, pipes that nobody reads."""

import fcntl
import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from common.core.clock import SystemClock
from common.observe.sink import PIPE_BYTES, Sink

PATIENCE_S = 0.01
CLOCK = SystemClock()


@contextmanager
def pipe(num_bytes: int) -> Iterator[tuple[int, TextIO]]:
    """Its end to read, and a stream over the other one; with room for so much."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, num_bytes)
    os.set_blocking(reading, False)
    with os.fdopen(writing, "w") as stream:
        yield reading, stream
        os.close(reading)


def drained(reading: int) -> str:
    return os.read(reading, 1 << 20).decode()


def test_a_full_disk_loses_lines_and_fails_nobody() -> None:
    with Path("/dev/full").open("w") as full:
        sink = Sink(full)
        for _ in range(3):
            sink.write("a line\n")
    assert sink.num_lost == 3


def test_a_reader_that_has_stopped_is_waited_for_once() -> None:
    """A blocking write would hang here: the limit of the test's time would end it."""
    with pipe(PIPE_BYTES) as (reading, stream):
        sink = Sink(stream, patience_s=0.5)
        sink.write("x" * (PIPE_BYTES - 1) + "\n")
        began = CLOCK.monotonic()
        for number in range(200):
            sink.write(f"lost {number}\n")
        assert sink.num_lost == 200
        assert 0.4 < CLOCK.monotonic() - began < 50, "each was waited for"
        drained(reading)
        sink.write("it reads again\n")
        assert drained(reading) == "it reads again\n"
        assert sink.num_lost == 200


def test_a_line_of_which_a_part_was_taken_does_not_run_into_the_next_one() -> None:
    with pipe(PIPE_BYTES) as (reading, stream):
        sink = Sink(stream, patience_s=PATIENCE_S)
        sink.write("x" * (2 * PIPE_BYTES) + "\n")
        assert drained(reading) == "x" * PIPE_BYTES
        sink.write("whole\n")
        assert drained(reading) == "\nwhole\n"
        sink.write("and whole\n")
        assert drained(reading) == "and whole\n"
    assert sink.num_lost == 1


def test_a_long_line_reaches_a_reader_that_is_only_slow() -> None:
    line, heard = "y" * (8 * PIPE_BYTES) + "\n", ""
    with pipe(PIPE_BYTES) as (reading, stream):
        sink = Sink(stream, patience_s=10)
        os.set_blocking(reading, True)
        writer = threading.Thread(target=sink.write, args=(line,), daemon=True)
        writer.start()
        while len(heard) < len(line):
            heard += drained(reading)
        writer.join(10)
    assert (heard, sink.num_lost) == (line, 0)


def test_whoever_has_no_stream_or_a_closed_one_loses_everything() -> None:
    with Path(os.devnull).open("w") as closed:
        behind = Sink(closed)
    for sink in (Sink(None), behind, Sink(closed)):
        sink.write("to nobody\n")
        assert sink.num_lost == 1


def test_a_stream_in_memory_gets_every_line() -> None:
    stream = io.StringIO()
    sink = Sink(stream)
    sink.write("a line\n")
    assert (stream.getvalue(), sink.num_lost) == ("a line\n", 0)
