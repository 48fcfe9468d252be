"""One child process: started, listened to, ended."""

import asyncio
import os
import signal
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from common.observe.announce import Announcement, read_announcement
from services.local.lines import lines_of
from services.local.topology import ROOT, ProcessSpec


class Child:
    """Writer: the supervisor's event loop. Logs go to `log`; announcements on stdout are handed to `heard`.

    `group` is the janitor's process group, whose members do not outlive us.
    """

    def __init__(self, spec: ProcessSpec, *, log: Path, group: int, heard: Callable[[Announcement], None]) -> None:
        self.spec = spec
        self._log = log
        self._group = group
        self._heard = heard
        self._process: asyncio.subprocess.Process | None = None
        self._is_wanted = True

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def run(self) -> int:
        """Start it and wait for its end. The exit status, negative for a signal. Cancelled: killed, then raised.

        Raises OSError when it cannot be started: no memory, no more files or processes, no folder for its log.
        """
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.spec.command,
                cwd=ROOT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                process_group=self._group,
            )
        try:
            if not self._is_wanted:
                self.signal(signal.SIGKILL)
            await self._listen(self._process)
            return await self._process.wait()  # bounded: lives as long as the child; the caller cancels
        finally:
            if self._process.returncode is None:
                self.signal(signal.SIGKILL)
                await self._process.wait()  # bounded: it was killed

    def end(self) -> None:
        """Ask it to drain and leave. One that is being started at this moment is killed instead."""
        self._is_wanted = False
        self.signal(signal.SIGTERM)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it lives."""
        if self._process is not None and self._process.returncode is None:
            os.kill(self._process.pid, number)

    def last_words(self) -> str:
        """The last line that it logged, without a traceback's frame: for the message when it cannot be kept alive."""
        lines: deque[str] = deque(maxlen=1)
        with suppress(OSError), self._log.open(errors="replace") as log:
            lines.extend(line.strip(" |+-\n") for line in log if line.strip(" |+-\n"))
        return lines[0][:300] if lines else "it logged nothing"

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in lines_of(process.stdout):
            announcement = read_announcement(line.decode(errors="replace"))
            if announcement is not None:
                self._heard(announcement)
