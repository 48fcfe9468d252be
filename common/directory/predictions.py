"""What workers will hold soon: prompts that were just routed. Lets siblings of a prompt follow it before it is read.

Two generations of one table: a prediction lasts between one and two periods, and to forget is to drop a dictionary.
"""

from collections.abc import Iterable

from common.directory.owners import Slot

LASTING_S = 10.0
"""Chosen: a long prompt's queueing and reading. After it the worker's own events tell, or the prediction was wrong."""

MAX_KEYS = 131_072
"""Chosen: 2 million tokens of prompts under way, in at most 20 MB; beyond it the older generation goes early."""


class Predictions:
    """Writer: the mirror. Times are monotonic seconds, passed in."""

    def __init__(self, *, lasting_s: float = LASTING_S, max_keys: int = MAX_KEYS) -> None:
        self._lasting_s = lasting_s
        self._max_keys = max_keys
        self._fresh: dict[int, int] = {}
        self._old: dict[int, int] = {}
        self._turned_at = float("-inf")

    def __len__(self) -> int:
        return len(self._fresh) + len(self._old)

    def add(self, slot: Slot, keys: Iterable[int], now: float) -> None:
        """A prompt with these pages is on its way to a worker."""
        self._turn(now)
        fresh, bit = self._fresh, 1 << slot
        for key in keys:
            fresh[key] = fresh.get(key, 0) | bit
        if len(fresh) > self._max_keys:
            self._old, self._fresh = fresh, {}

    def tables(self, now: float) -> tuple[dict[int, int], ...]:
        """Page to bits of workers. Bits of slots that are not open mean nothing. Empty tables are left out."""
        self._turn(now)
        return tuple(table for table in (self._fresh, self._old) if table)

    def forget(self) -> None:
        """Slots change their meaning: nothing predicted before may count."""
        self._fresh, self._old = {}, {}

    def _turn(self, now: float) -> None:
        if now - self._turned_at >= self._lasting_s:
            self._old = self._fresh if now - self._turned_at < 2 * self._lasting_s else {}
            self._fresh = {}
            self._turned_at = now
