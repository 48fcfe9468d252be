"""The circuit to Redis: after MAX_FAILURES nobody tries, except one probe now and then.

CLOSED -(MAX_FAILURES in a row)-> OPEN -(probe due)-> HALF_OPEN -(success)-> CLOSED
                                  ^---------(failure)-----'
"""

from enum import IntEnum

from common.core.clock import Clock

MAX_FAILURES = 3
"""Chosen: one is a lost packet, two a restart of the connection; each costs its caller a timeout."""


class BreakerState(IntEnum):
    """The values are the metric's."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Breaker:
    """Counts failures in a row. Writer: the guard that asks `allows` before each attempt and reports how it went."""

    def __init__(self, clock: Clock, *, probe_s: float) -> None:
        self._clock = clock
        self._probe_s = probe_s
        self._failures = 0
        self._opened_at = 0.0
        self.state = BreakerState.CLOSED

    def allows(self) -> bool:
        """Whether to try now. When the probe is due, it is the caller's: until it is reported others are refused."""
        if self.state is BreakerState.OPEN and self._clock.monotonic() - self._opened_at >= self._probe_s:
            self.state = BreakerState.HALF_OPEN
            return True
        return self.state is BreakerState.CLOSED

    def succeeded(self) -> bool:
        """True when this success closed the circuit again."""
        was_open = self.state is not BreakerState.CLOSED
        self._failures = 0
        self.state = BreakerState.CLOSED
        return was_open

    def failed(self) -> None:
        self._failures += 1
        if self.state is BreakerState.HALF_OPEN or self._failures >= MAX_FAILURES:
            self.state = BreakerState.OPEN
            self._opened_at = self._clock.monotonic()

    def abandoned(self) -> None:
        """The attempt was cancelled: nothing was learnt, but a probe must not stay taken."""
        if self.state is BreakerState.HALF_OPEN:
            self.state = BreakerState.OPEN
