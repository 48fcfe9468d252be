"""How long those who wait will wait, by how fast the line moved lately. Pure: the caller says what time it is.

Only a line that is held up says how fast the fleet takes work in: the clock runs from the moment when the first in line
had to wait until nobody waits any more. What was let in before that filled empty places, and is no measure; neither is
how long nobody was there to take anything in.
"""

from collections import deque
from dataclasses import dataclass, field

WINDOW_S = 10.0
"""Chosen: long enough to be steady over uneven requests, short enough to follow a worker that joins or dies."""

MAX_SAMPLES = 256
"""Chosen: at 25 admissions a second the window is whole; faster lines are measured over less time, as accurately."""

MIN_SAMPLES = 4
MIN_BUSY_S = 0.25
"""Chosen: less than this is an accident; until then nothing is predicted, and nobody is refused by prediction."""


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    """On the clock of busy time."""
    work: float


@dataclass(slots=True)
class Forecast:
    """Writer: the line."""

    _samples: deque[_Sample] = field(default_factory=lambda: deque(maxlen=MAX_SAMPLES))
    _busy_s: float = 0.0
    _held_since: float | None = None

    def note_held(self, now: float) -> None:
        """The first in line must wait."""
        if self._held_since is None:
            self._held_since = now

    def note_admitted(self, work: float, now: float) -> None:
        """Somebody was let in."""
        if self._held_since is not None:
            self._samples.append(_Sample(self._busy(now), work))

    def pause(self, now: float) -> None:
        """Nobody waits any more, or no worker is there: what passes until `note_held` is no measure."""
        self._busy_s = self._busy(now)
        self._held_since = None

    def seconds(self, work: float, now: float) -> float | None:
        """Until so much work was let in; None: not known yet. Grows while nothing moves."""
        busy = self._busy(now)
        while self._samples and self._samples[0].at < busy - WINDOW_S and len(self._samples) > MIN_SAMPLES:
            self._samples.popleft()
        if len(self._samples) < MIN_SAMPLES:
            return None
        first = self._samples[0]
        span_s = busy - first.at
        if span_s < MIN_BUSY_S:
            return None
        return work * span_s / max(sum(sample.work for sample in self._samples) - first.work, 1.0)

    def _busy(self, now: float) -> float:
        return self._busy_s + (0.0 if self._held_since is None else now - self._held_since)
