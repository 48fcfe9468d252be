"""The retry budget: when much fails, retries may not be what brings the rest down."""

import asyncio

from common.core.clock import Clock

CAPACITY = 20.0
"""Chosen: retries at once after a quiet time: what the death of one worker among a few brings."""

RATIO = 0.1
"""Chosen: a tenth of what succeeds may be tried again, so that retries add at most that to a load that is served."""

PER_SECOND = 2.0
"""Chosen: where nothing succeeds, a router still tries twice a second."""


class RetryBudget:
    """A token bucket shared by every request of this router. Writer: the event loop's thread.

    A retry takes one token; a finished request gives RATIO back, and time gives `per_second`, so that a quiet router
    recovers. A retry that finds none waits for one instead of failing: the caller's deadline bounds the wait.
    Moving a stream off a dead worker takes no token: one death is one move per stream, and cannot feed itself.
    """

    def __init__(self, *, clock: Clock, capacity: float = CAPACITY, per_second: float = PER_SECOND) -> None:
        self._clock = clock
        self._capacity = capacity
        self._per_second = per_second
        self._tokens = capacity
        self._counted_at = clock.monotonic()

    @property
    def tokens(self) -> float:
        """What is left; negative while retries wait."""
        return self._tokens

    def note_success(self) -> None:
        self._refill(RATIO)

    async def take(self) -> None:
        """Takes one token, waiting until it would have been there. Whoever is cancelled meanwhile gives it back."""
        self._refill(0.0)
        self._tokens -= 1.0
        if self._tokens < 0:
            try:
                await asyncio.sleep(-self._tokens / self._per_second)
            except asyncio.CancelledError:
                self._refill(1.0)
                raise

    def _refill(self, extra: float) -> None:
        now = self._clock.monotonic()
        grown = self._tokens + (now - self._counted_at) * self._per_second + extra
        self._counted_at = now
        self._tokens = min(grown, self._capacity)
