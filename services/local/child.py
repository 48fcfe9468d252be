"""One child process: started, listened to, ended. It dies with us, whatever kills us."""

import asyncio
import ctypes
import os
import signal
from collections.abc import Callable
from pathlib import Path

from common.observe.announce import Announcement, read_announcement
from services.local.topology import ProcessSpec

PR_SET_PDEATHSIG = 1
ROOT = Path(__file__).resolve().parents[2]

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Runs in the child before exec: a supervisor that is killed leaves nobody behind."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """Writer: the supervisor's event loop. Logs go to `log`; announcements on stdout are handed to `heard`."""

    def __init__(self, spec: ProcessSpec, *, log: Path, heard: Callable[[Announcement], None]) -> None:
        self.spec = spec
        self._log = log
        self._heard = heard
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def run(self) -> int:
        """Start it and wait for its end. The exit status, negative for a signal. Cancelled: killed, then raised."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.spec.command,
                cwd=ROOT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,  # no thread of ours holds a lock that the child needs
            )
        try:
            await self._listen(self._process)
            return await self._process.wait()  # bounded: lives as long as the child; the caller cancels
        finally:
            if self._process.returncode is None:
                self.signal(signal.SIGKILL)
                await self._process.wait()  # bounded: it was killed

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it lives."""
        if self._process is not None and self._process.returncode is None:
            os.kill(self._process.pid, number)

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            announcement = read_announcement(line.decode(errors="replace"))
            if announcement is not None:
                self._heard(announcement)
