"""How late the event loop is: whatever holds it up holds up every stream of the process."""

import asyncio
from types import TracebackType
from typing import Self

from common.observe import catalogue
from common.observe.registry import Metrics

BEAT_S = 0.25
"""Chosen: a pause of a second is seen at its end, and an idle process wakes four times a second for it."""


class LoopLag:
    """Beats inside its block. Writer: the event loop it was entered in.

    A gauge that a scrape reads seldom would miss what came between: so the worst lateness since the last scrape is
    shown, and `refresh` begins anew.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._worst_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._schedule()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def refresh(self) -> None:
        """Before a scrape, from whatever thread."""
        worst_s, self._worst_s = self._worst_s, 0.0
        self._metrics.set(catalogue.LOOP_LAG_SECONDS, worst_s)

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + BEAT_S
        self._timer = loop.call_at(due, self._beat, due)

    def _beat(self, due: float) -> None:
        self._worst_s = max(self._worst_s, asyncio.get_running_loop().time() - due)
        self._schedule()
