"""A token bucket that time fills. Pure: the caller says what time it is."""

from dataclasses import dataclass

BURST_S = 2.0
"""Chosen: a client that sends two seconds' worth at once is within its rate; a longer burst is somebody else's room."""


@dataclass(slots=True)
class Bucket:
    """Writer: its tenant. Starts full. The level may fall below zero: what was used in the end is paid for later."""

    filled_at: float
    level: float = float("inf")

    def wait_s(self, amount: float, *, rate: float, now: float) -> float:
        """Until `amount` is there, or the bucket is full where it asks for more; 0: it is there now."""
        self._fill(rate, now)
        missing = min(amount, max(rate * BURST_S, 1.0)) - self.level
        return max(missing / rate, 0.0)

    def take(self, amount: float, *, rate: float, now: float) -> None:
        """Negative gives back."""
        self._fill(rate, now)
        self.level = min(self.level - amount, max(rate * BURST_S, 1.0))

    def _fill(self, rate: float, now: float) -> None:
        self.level = min(self.level + rate * max(now - self.filled_at, 0.0), max(rate * BURST_S, 1.0))
        self.filled_at = now

    def is_full(self, *, rate: float, now: float) -> bool:
        """Nothing would be lost by forgetting it."""
        self._fill(rate, now)
        return self.level >= max(rate * BURST_S, 1.0)
