"""Calls between a pair of marks, content around them."""

from collections.abc import Callable
from dataclasses import dataclass

from services.gateway.reading.piece import Call, Content, Piece, content
from services.gateway.reading.spans import MAX_HELD_CHARS, first_mark, held_back
from services.gateway.reading.tool import Tools

MAX_PASSED_MARKS = 16
"""Chosen: closing marks within one call's arguments. Each is a reason to read the call again from its beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelling:
    """How calls are written between their marks. `bare`: how one begins whose opening mark was left out."""

    begin: str
    end: str
    bare: str = ""
    calls: Callable[[str, Tools], tuple[Call, ...]]
    """The calls that a text consists of; none where any part of it is something else."""
    is_open: Callable[[str], bool]
    """Whether a text that is no call yet stops within an argument: a closing mark there is the argument's."""


class PairReader:
    """What began like a call and is none comes as content, and what follows it is read anew."""

    def __init__(self, tools: Tools, spelling: Spelling) -> None:
        self._tools = tools
        self._spelling = spelling
        self._begins = (spelling.begin, spelling.bare) if spelling.bare else (spelling.begin,)
        self._begin = spelling.begin
        """How the call began that is being read."""
        self._held = ""
        self._is_inside = False
        self._passed: list[int] = []
        """Where in what is held closing marks end that are an argument's."""

    @property
    def is_in_call(self) -> bool:
        return self._is_inside

    def push(self, text: str) -> list[Piece]:
        self._held += text
        pieces = self._read()
        if self._is_inside:
            if len(self._held) > MAX_HELD_CHARS:
                pieces += self.finish()
            return pieces
        keep = held_back(self._held, self._begins)
        free, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return pieces + content(free)

    def finish(self) -> list[Piece]:
        """A call whose closing mark never came counts where it is complete."""
        pieces: list[Piece] = []
        while self._is_inside:
            calls = self._calls(self._held)
            if self._passed and not calls:
                pieces += [*self._give_up(), *self._read()]
            else:
                pieces += calls or [Content(self._begin + self._held)]
                self._leave(len(self._held))
        held, self._held = self._held, ""
        return pieces + content(held)

    def _read(self) -> list[Piece]:
        """Whatever is certain by now, up to a mark that has not come."""
        pieces: list[Piece] = []
        while True:
            if self._is_inside:
                at = self._held.find(self._spelling.end, self._passed[-1] if self._passed else 0)
                if at < 0:
                    return pieces
                pieces += self._close(at)
            else:
                found = first_mark(self._held, self._begins)
                if found is None:
                    return pieces
                at, self._begin = found
                pieces += content(self._held[:at])
                self._held, self._is_inside = self._held[at + len(self._begin) :], True

    def _close(self, at: int) -> list[Piece]:
        """A closing mark: the call's own, an argument's, or the end of what is no call."""
        inner, after = self._held[:at], at + len(self._spelling.end)
        if calls := self._calls(inner):
            self._leave(after)
            return calls
        self._passed.append(after)
        if self._spelling.is_open(inner) and len(self._passed) <= MAX_PASSED_MARKS:
            return []
        return self._give_up()

    def _give_up(self) -> list[Piece]:
        """No call: content up to the first closing mark."""
        after = self._passed[0]
        told = self._begin + self._held[:after]
        self._leave(after)
        return [Content(told)]

    def _leave(self, after: int) -> None:
        self._held, self._is_inside, self._passed = self._held[after:], False, []

    def _calls(self, inner: str) -> list[Piece]:
        is_bare = self._begin != self._spelling.begin
        return list(self._spelling.calls(self._begin + inner if is_bare else inner, self._tools))
