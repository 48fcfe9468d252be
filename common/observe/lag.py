"""How late the event loop is: whatever holds it up holds up every stream of the process.

Who was not heard meanwhile may have spoken: what was said lies in a socket that nobody read.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from common.observe import catalogue
from common.observe.registry import Metrics

BEAT_S = 0.25
"""Chosen: a pause of a second is seen at its end, and an idle process wakes four times a second for it."""

LATE_S = 0.05
"""Chosen: several turns of a loop that is busy and keeps up."""

MAX_PAUSES = 256
"""Chosen: the last minute of a loop that is always late. Nobody is waited for longer."""

LostTime = Callable[[float], float]
"""Of the seconds since a moment on the loop's clock: those in which the loop stood still."""


def never_late(since: float) -> float:
    """A LostTime where time stands still with the loop, or nobody looks."""
    return 0.0


class LoopLag:
    """Beats inside its block. Writer: the event loop it was entered in.

    A gauge that a scrape reads seldom would miss what came between: so the worst lateness since the last scrape is
    shown, and `refresh` begins anew.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._worst_s = 0.0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._pauses: deque[tuple[float, float]] = deque(maxlen=MAX_PAUSES)
        """When each ended, and how long it was."""

    def __enter__(self) -> Self:
        self._schedule()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def refresh(self) -> None:
        """Before a scrape, from whatever thread."""
        worst_s, self._worst_s = self._worst_s, 0.0
        self._metrics.set(catalogue.LOOP_LAG_SECONDS, worst_s)

    def lost_s(self, since: float) -> float:
        """Of the time since that moment, how much was lost to pauses; a beat that is overdue now is the end of one."""
        now = asyncio.get_running_loop().time()
        pauses = list(self._pauses)
        if self._timer is not None and now - self._due >= LATE_S:
            pauses.append((now, now - self._due))
        return sum(min(length, ended - since) for ended, length in pauses if ended > since)

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        self._due = loop.time() + BEAT_S
        self._timer = loop.call_at(self._due, self._beat)

    def _beat(self) -> None:
        now = asyncio.get_running_loop().time()
        late_s = now - self._due
        self._worst_s = max(self._worst_s, late_s)
        if late_s >= LATE_S:
            self._pauses.append((now, late_s))
        self._schedule()
