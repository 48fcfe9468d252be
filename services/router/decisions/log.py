"""The decision log: decisions are noted at once, and written to a rotating file a little later, elsewhere.

`<folder>/<router>.jsonl` and, once it is half of what the log may take, `<folder>/<router>.1.jsonl`: the older half.
"""

import asyncio
from collections import deque
from pathlib import Path

from common.core.clock import Clock
from common.core.errors import StartupError
from common.observe import catalogue
from common.observe.logging import get_log
from common.observe.registry import Metrics
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
        self._max_bytes = max_bytes // 2
        self._offload = offload
        self._clock = clock
        self._metrics = metrics
        self._waiting: deque[Entry] = deque()
        self._size: int | None = None

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
            self._write(self._take())

    async def flush(self) -> None:
        """Writes what waits, on another thread: a slow disk holds up nobody."""
        if entries := self._take():
            await self._offload.run(lambda: self._write(entries))

    def _take(self) -> tuple[Entry, ...]:
        entries = tuple(self._waiting)
        self._waiting.clear()
        return entries

    def _write(self, entries: tuple[Entry, ...]) -> None:
        """Appends; a disk that refuses costs log entries and nothing else."""
        if not entries:
            return
        try:
            self._append("".join(map(write_line, entries)))
        except OSError as error:
            self._metrics.add(catalogue.DECISIONS_LOST, len(entries))
            _LOG.warning("decision_log_failed", error=error.strerror or "", entries=len(entries))

    def _append(self, text: str) -> None:
        assert self._folder is not None
        file = self._folder / f"{self._header.router}.jsonl"
        if self._size is None or self._size + len(text) > self._max_bytes:
            self._begin(file)
        with file.open("a", encoding="utf-8") as out:
            out.write(text)
        self._size = (self._size or 0) + len(text)

    def _begin(self, file: Path) -> None:
        """A new file with its header; the one before becomes the older half, and the older half goes."""
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists():
            file.replace(older(file))
        header = write_line(self._header)
        file.write_text(header, encoding="utf-8")
        self._size = len(header)


def older(file: Path) -> Path:
    """Where a full log goes."""
    return file.with_suffix(f".1{file.suffix}")


def folder_of(path: str) -> Path | None:
    """The configured folder, made and checked. None when none is configured. Raises StartupError."""
    if not path:
        return None
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartupError(message=f"router.decision_log {folder} cannot be made: {error.strerror}") from error
    return folder
