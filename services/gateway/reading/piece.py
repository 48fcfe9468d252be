"""What a reader makes of text."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Content:
    """Text for the client."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    """Text that the model wrote for itself."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A tool to be called. `arguments` is JSON."""

    name: str
    arguments: str


Piece = Content | Thought | Call


def content(text: str) -> list[Piece]:
    """No piece where there is no text."""
    return [Content(text)] if text else []


class Reader(Protocol):
    """Reads one choice. `push` gets text as it comes; `finish` gives what was held back."""

    @property
    def is_in_call(self) -> bool:
        """Whether the next text may belong to a call that has begun: whatever it spells."""

    def push(self, text: str) -> list[Piece]: ...

    def finish(self) -> list[Piece]: ...


class PlainReader:
    """Everything is content."""

    is_in_call = False

    def push(self, text: str) -> list[Piece]:
        return content(text)

    def finish(self) -> list[Piece]:
        return []
