"""Stop strings in text that arrives in pieces.

One automaton per stop string (Knuth, Morris, Pratt): its state is how much of the stop string the text's end spells. So
each character is looked at once, the stop that completes first is found wherever the pieces are cut, and exactly as
much text is held back as may still turn out to be a stop string.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanned:
    """`text` may go out. With `stop` set it is the last: the stop string and all behind it are cut off."""

    text: str
    stop: str | None = None


class StopScanner:
    """Watches one choice's text. Two stops that complete at the same character: the first of the list wins."""

    def __init__(self, stops: Sequence[str], *, include_stop: bool = False) -> None:
        assert all(stops), "an empty stop string would stop everything"
        self._automata = [_Automaton(stop) for stop in stops]
        self._include_stop = include_stop
        self._held = ""

    def push(self, text: str, *, may_stop: bool = True) -> Scanned:
        """`may_stop` False: a stop string that completes in this text does not count, nor later."""
        if not self._automata:
            return Scanned(text=text)
        self._held += text
        start = len(self._held) - len(text)
        for at, character in enumerate(text, start):
            # Every automaton moves before the first full one wins: none may miss a character.
            full = [automaton for automaton in self._automata if automaton.step(character)]
            if full and may_stop:
                stop = full[0].stop
                end = at + 1 if self._include_stop else at + 1 - len(stop)
                return self._release(end, stop)
        hold = max((automaton.state for automaton in self._automata), default=0)
        return self._release(len(self._held) - hold)

    def flush(self) -> str:
        """The end without a stop: what was held back."""
        return self._release(len(self._held)).text

    def _release(self, end: int, stop: str | None = None) -> Scanned:
        text, self._held = self._held[:end], "" if stop is not None else self._held[end:]
        return Scanned(text=text, stop=stop)


class _Automaton:
    """Matches one stop string. `state` characters of it are spelled by the end of the text."""

    def __init__(self, stop: str) -> None:
        self.stop = stop
        self.state = 0
        self._fallback = _borders(stop)

    def step(self, character: str) -> bool:
        """True when this character completes the stop string; `state` is then what may begin the next one."""
        while self.state and self.stop[self.state] != character:
            self.state = self._fallback[self.state - 1]
        if self.stop[self.state] == character:
            self.state += 1
        if self.state < len(self.stop):
            return False
        self.state = self._fallback[self.state - 1]
        return True


def _borders(stop: str) -> list[int]:
    """For each prefix, the length of its longest proper prefix that is also its suffix."""
    borders = [0] * len(stop)
    length = 0
    for at in range(1, len(stop)):
        while length and stop[at] != stop[length]:
            length = borders[length - 1]
        if stop[at] == stop[length]:
            length += 1
        borders[at] = length
    return borders
