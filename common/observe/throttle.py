"""One line a minute: for trouble that repeats with every request."""

from dataclasses import dataclass

from common.core.clock import Clock
from common.observe.logging import Log

PERIOD_S = 60.0
"""Chosen: who follows the log sees within a minute that it goes on."""

MAX_EVENTS = 256


@dataclass(slots=True)
class _Window:
    opened_at: float
    held_back: int = 0


class ThrottledLog:
    """Writes each event at most once per period, and says then how many lines it held back.

    Writer: one thread. Remembers at most MAX_EVENTS event names, which are constants in the code.
    """

    def __init__(self, log: Log, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._windows: dict[str, _Window] = {}
        self.held_back = 0

    def warning(self, event: str, **facts: object) -> bool:
        """True when the line was written."""
        now = self._clock.monotonic()
        window = self._windows.get(event)
        if window is not None and now - window.opened_at < PERIOD_S:
            window.held_back += 1
            self.held_back += 1
            return False
        if window is not None and window.held_back:
            facts = {**facts, "held_back": window.held_back}
        assert event in self._windows or len(self._windows) < MAX_EVENTS, "event names are constants"
        self._windows[event] = _Window(opened_at=now)
        self._log.warning(event, **facts)
        return True
