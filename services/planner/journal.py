"""The planner's log: every look and what was made of it, in a rotating file that `baton replay` decides again."""

import asyncio
from collections import deque
from pathlib import Path

from common.core.clock import Clock
from common.observe import catalogue
from common.observe.logging import get_log
from common.observe.registry import Metrics
from common.observe.rotation import Rotation
from common.transfer.scope import outlast
from services.planner.decide import Recommendation, State
from services.planner.load import Signals
from services.planner.record import Beginning, Look, write_line
from services.planner.settings import PlannerSettings

MAX_WAITING = 512
"""Chosen: looks of a quarter of an hour; what a stuck disk does not take is counted and lost."""

FLUSH_S = 2.0

_LOG = get_log("planner")


class Journal:
    """Writer: the planner's loop notes, `run` writes. Without a folder nothing is kept."""

    def __init__(
        self,
        planner: str,
        settings: PlannerSettings,
        *,
        folder: Path | None,
        max_bytes: int,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._planner = planner
        self._settings = settings
        self._is_open = folder is not None
        self._files = Rotation((folder or Path()) / f"{planner}.jsonl", max_bytes=max_bytes)
        self._clock = clock
        self._metrics = metrics
        self._waiting: deque[tuple[State, Look, State]] = deque()
        """Each look between what was remembered before it and after."""
        self._written: State | None = None
        """After the last look that is on disk. Writer: whoever writes, as of the files."""

    def note(self, before: State, signals: Signals, answer: Recommendation) -> None:
        """Never waits, never raises. `before`: what was remembered at this look."""
        if not self._is_open:
            return
        if len(self._waiting) >= MAX_WAITING:
            self._metrics.add(catalogue.DECISIONS_LOST, 1)
            return
        self._waiting.append((before, Look.of(self._clock.wall(), signals, answer), answer.state))

    async def run(self) -> None:
        """Writes what was noted, until cancelled; then the rest, behind what is being written."""
        try:
            while True:
                await asyncio.sleep(FLUSH_S)
                if looks := self._take():
                    await outlast(asyncio.ensure_future(asyncio.to_thread(self._write, looks)))
        finally:
            self._write(self._take())

    def _take(self) -> tuple[tuple[State, Look, State], ...]:
        looks = tuple(self._waiting)
        self._waiting.clear()
        return looks

    def _write(self, looks: tuple[tuple[State, Look, State], ...]) -> None:
        """Appends, look by look, as each may begin a file: one that does not follow on the last begins one, for it can
        be decided again only from a state of its own. A disk that refuses costs looks and nothing else."""
        for index, (before, look, after) in enumerate(looks):
            if before != self._written:
                self._files.begin_anew()
            beginning = Beginning(planner=self._planner, settings=self._settings, state=before)
            try:
                self._files.append(write_line(look), lambda: write_line(beginning))  # noqa: B023 - called at once
            except OSError as error:
                lost = len(looks) - index
                self._metrics.add(catalogue.DECISIONS_LOST, lost)
                _LOG.warning("decision_log_failed", error=error.strerror or "", looks=lost)
                return
            self._written = after
