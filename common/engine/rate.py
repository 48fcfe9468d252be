"""Tokens per second as of now: an exponentially weighted rate, in constant space."""

import math

SILENCE = 0.01
"""Chosen: of fewer per second nothing is left to tell. A fading exponential would be above zero for an hour, and who
asks whether anybody works here would be told that somebody does."""


class Rate:
    """Writer: the core that owns it. Forgets with time constant `window_s`; silence brings it to zero, not near it."""

    def __init__(self, *, window_s: float = 5.0) -> None:
        self._window_s = window_s
        self._value = 0.0
        self._at = 0.0

    def add(self, count: int, now: float) -> None:
        """`count` tokens came at `now` (monotonic seconds)."""
        self._value = self.per_second(now) + count / self._window_s
        self._at = now

    def per_second(self, now: float) -> float:
        rate = self._value * math.exp(-max(0.0, now - self._at) / self._window_s)
        return rate if rate >= SILENCE else 0.0
