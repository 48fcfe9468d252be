"""`<think>...</think>` before or within an answer, or what a model has for it. Templates often write the opening mark
themselves, so a model may begin inside its thoughts.
"""

from services.gateway.reading.piece import Content, Piece, Reader, Thought
from services.gateway.reading.spans import held_back

OPEN, CLOSE = "<think>", "</think>"


class ThoughtReader:
    """Splits thoughts off and leaves the rest to another reader. White space after the closing mark is dropped."""

    is_in_call = False

    def __init__(self, rest: Reader, *, begin: str = OPEN, end: str = CLOSE, begins_inside: bool = False) -> None:
        self._rest = rest
        self._begin, self._end = begin, end
        self._is_inside = begins_inside
        self._drops_space = False
        self._held = ""

    def push(self, text: str) -> list[Piece]:
        self._held += text
        pieces: list[Piece] = []
        while True:
            mark = self._end if self._is_inside else self._begin
            before, found, after = self._held.partition(mark)
            if not found:
                break
            pieces += self._told(before)
            if not self._is_inside and self._rest.is_in_call:  # the mark is an argument's
                pieces += self._rest.push(mark)
                self._held = after
                continue
            self._is_inside, self._held = not self._is_inside, after
            self._drops_space = not self._is_inside
        keep = held_back(self._held, (mark,))
        free, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return pieces + self._told(free)

    def finish(self) -> list[Piece]:
        held, self._held = self._held, ""
        return self._told(held) + self._rest.finish()

    def _told(self, text: str) -> list[Piece]:
        if self._is_inside:
            return [Thought(text)] if text else []
        if self._drops_space:
            text = text.lstrip()
            self._drops_space = not text
        return self._rest.push(text) if text else []


def joined(pieces: list[Piece]) -> list[Piece]:
    """Neighbours of one kind as one piece."""
    whole: list[Piece] = []
    for piece in pieces:
        last = whole[-1] if whole else None
        match piece, last:
            case Content(text), Content(before):
                whole[-1] = Content(before + text)
            case Thought(text), Thought(before):
                whole[-1] = Thought(before + text)
            case _:
                whole.append(piece)
    return whole
