"""The decision log: decisions are noted at once, and written to a rotating file a little later, elsewhere.

`<folder>/<router>.jsonl` and, once it is half of what the log may take, `<folder>/<router>.1.jsonl`: the older half.
"""

import asyncio
from collections import deque
from pathlib import Path

from common.core.clock import Clock
from common.observe import catalogue
from common.observe.logging import get_log
from common.observe.registry import Metrics
from common.observe.rotation import Rotation, made_folder
from common.transfer.offload import Offload
from services.router.decisions.entry import Entry, Header, write_line

MAX_WAITING = 4096
"""Chosen: decisions of several seconds at 500 a second; what a stuck disk does not take is counted and lost."""

FLUSH_S = 0.5

_LOG = get_log("router")


class DecisionLog:
    """Writer: the event loop's thread. Without a folder nothing is kept here: records remember recent decisions."""

    def __init__(
        self, header: Header, *, folder: Path | None, max_bytes: int, offload: Offload, clock: Clock, metrics: Metrics
    ) -> None:
        self._header = header
        self._folder = folder
        self._files = Rotation((folder or Path()) / f"{header.router}.jsonl", max_bytes=max_bytes)
        self._offload = offload
        self._clock = clock
        self._metrics = metrics
        self._waiting: deque[Entry] = deque()

    @property
    def is_open(self) -> bool:
        """Whether entries are kept: making one can be spared otherwise."""
        return self._folder is not None

    def wall(self) -> float:
        """When an entry is made."""
        return self._clock.wall()

    def note(self, entry: Entry) -> None:
        """Never waits, never raises."""
        if self._folder is None:
            return
        if len(self._waiting) >= MAX_WAITING:
            self._metrics.add(catalogue.DECISIONS_LOST)
            return
        self._waiting.append(entry)

    async def run(self) -> None:
        """Writes what was noted, until cancelled; then the rest."""
        if self._folder is None:
            return
        try:
            while True:
                await asyncio.sleep(FLUSH_S)
                await self.flush()
        finally:
            self._write()

    async def flush(self) -> None:
        """Writes what waits, on another thread: a slow disk holds up nobody."""
        if self._waiting:
            await self._offload.run(self._write)

    def _write(self) -> None:
        """Appends what waits, and takes it only now: a write that was cancelled before it began loses nothing. A disk
        that refuses costs log entries and nothing else."""
        entries = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not entries:
            return
        try:
            self._files.append("".join(map(write_line, entries)), lambda: write_line(self._header))
        except OSError as error:
            self._metrics.add(catalogue.DECISIONS_LOST, len(entries))
            _LOG.warning("decision_log_failed", error=error.strerror or "", entries=len(entries))


def folder_of(path: str) -> Path | None:
    """The configured folder, made and checked. None when none is configured. Raises StartupError."""
    return made_folder(path, knob="router.decision_log")
