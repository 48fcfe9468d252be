"""The lines of a trace file, compressed or not, one at a time: with their numbers, refused where they are no text."""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from services.simulator.trace import unreadable

MAX_LINE_BYTES = 4 << 20
"""Chosen: a prompt of a million tokens in blocks of 16 takes half a megabyte of names. More is a file without lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line with its end; `number` from 1."""

    number: int
    text: str


def is_packed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def lines_of(path: Path) -> Iterator[Line]:
    """UTF-8 with or without a byte order mark, gzip where the name says so. Raises InvalidRequest with the line."""
    number = 0
    try:
        with gzip.open(path) if is_packed(path) else path.open("rb") as file:
            while raw := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(raw) > MAX_LINE_BYTES:
                    raise unreadable(path, number, f"over {MAX_LINE_BYTES} bytes: a trace has one request per line")
                yield Line(number=number, text=raw.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        raise unreadable(path, number, f"not UTF-8: {error.reason} at byte {error.start}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, number + 1, f"cannot be read: {error}") from error
