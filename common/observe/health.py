"""Alive and ready, as two different questions.

Alive: the step loop makes progress, or turns while idle. It never depends on Redis or on peers: an outage there must
not restart the fleet. Ready: the model is loaded, a real token was generated, and nobody asked to drain.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum

from common.core.clock import Clock


class Condition(StrEnum):
    """What must have happened before a process takes work."""

    MODEL_LOADED = "model_loaded"
    TOKEN_GENERATED = "token_generated"  # noqa: S105 - a name, not a password
    WORKERS_SEEN = "workers_seen"
    LISTENING = "listening"
    DECIDED = "decided"


class LoopProgress:
    """Liveness of a loop that counts its turns, idle ones too. Writer: whoever asks, on the event loop.

    Stalled: the count has not moved for `stall_s`, as seen between two looks at it.
    """

    def __init__(self, clock: Clock, read_turns: Callable[[], int], *, stall_s: float = 15.0) -> None:
        self._clock = clock
        self._read_turns = read_turns
        self._stall_s = stall_s
        self._seen = read_turns()
        self._moved_at = clock.monotonic()

    def is_alive(self) -> bool:
        return self.silent_s() < self._stall_s

    def silent_s(self) -> float:
        """Seconds since the count was last seen to move."""
        now = self._clock.monotonic()
        turns = self._read_turns()
        if turns != self._seen:
            self._seen, self._moved_at = turns, now
        return now - self._moved_at


class Readiness:
    """Conditions met so far. Writer: the composition root. WAITING -> READY -> DRAINING, and never back."""

    def __init__(self, conditions: Sequence[Condition]) -> None:
        self._open = list(conditions)
        self._is_draining = False

    def meet(self, condition: Condition) -> None:
        """This happened. Meeting it twice changes nothing."""
        if condition in self._open:
            self._open.remove(condition)

    def drain(self) -> None:
        """No new work from here on."""
        self._is_draining = True

    @property
    def is_ready(self) -> bool:
        return not self._open and not self._is_draining

    @property
    def missing(self) -> tuple[str, ...]:
        """Why not ready, in words."""
        return (*self._open, *(("draining",) if self._is_draining else ()))
