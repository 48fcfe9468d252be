"""Whom to ask about, of a set of names that may hold more of the dead than of the living. Pure.

A name stays in its set when its owner dies without leaving, as long as anybody else renews the set; pods that are
replaced come under new names every time. So the living cannot be the first so many names: they would be crowded out.
"""

from bisect import bisect_right
from collections.abc import Iterable


class Roll:
    """Calls at most `max_names` at a time: those who are known to live, whoever was heard of, the others in turn.

    Writer: whoever reads the set. A call counts once it `was_answered`. Where more than `max_names` live, the rest is
    not looked up: a ceiling.
    """

    def __init__(self, max_names: int) -> None:
        self._max_names = max_names
        self._last = self._called_last = ""
        """Up to whom the others had their turn."""
        self._is_last_lap = False
        self.is_whole = False
        """Whether everybody who was there had a turn since the beginning: before that, whoever is missing may live."""

    def call(self, names: Iterable[str], *, known: Iterable[str], heard_of: Iterable[str] = ()) -> tuple[str, ...]:
        """Names to read, in order. `known` lived at the last look; `heard_of` may live, and take half of the rest."""
        ordered = sorted(set(names))
        if len(ordered) <= self._max_names:
            self._called_last, self._is_last_lap = "", True
            return tuple(ordered)
        present = set(ordered)
        called = set([name for name in sorted(known) if name in present][: self._max_names])
        wanted = [name for name in dict.fromkeys(heard_of) if name in present and name not in called]
        called.update(wanted[: (self._max_names - len(called)) // 2])
        others = [name for name in ordered if name not in called]
        room, start = self._max_names - len(called), bisect_right(others, self._last)
        turn = others[start : start + room]
        self._is_last_lap = start + room >= len(others) or not room
        if self._is_last_lap:
            turn += others[: min(start, room - len(turn))]
        self._called_last = turn[-1] if turn else self._last
        return tuple(sorted(called.union(turn)))

    def was_answered(self) -> None:
        """The names of the last call were read."""
        self._last = self._called_last
        self.is_whole = self.is_whole or self._is_last_lap
