"""Text between marks, found while it comes: what could be the beginning of a mark is held back, nothing else."""

from collections.abc import Sequence

MAX_HELD_CHARS = 256 << 10
"""Chosen: longer than any context's worth of one call; what is longer is content."""


def held_back(text: str, marks: Sequence[str]) -> int:
    """How many characters at the end of `text` could begin one of the marks."""
    longest = max((len(mark) for mark in marks), default=0)
    for size in range(min(longest - 1, len(text)), 0, -1):
        tail = text[len(text) - size :]
        if any(mark.startswith(tail) for mark in marks):
            return size
    return 0


def first_mark(text: str, marks: Sequence[str]) -> tuple[int, str] | None:
    """Where the first of the marks is, and which one; the longer where two begin together."""
    found = [(at, -len(mark), mark) for mark in marks if (at := text.find(mark)) >= 0]
    if not found:
        return None
    at, _, mark = min(found)
    return at, mark
