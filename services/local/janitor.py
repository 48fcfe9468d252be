"""Outlives the supervisor for a moment: whatever ended it, no process and no folder of its cluster stays behind.

A shell that waits on a pipe whose other end only the supervisor holds. Its process group is the children's, joined
before their first instruction, so that a SIGKILL of the supervisor at any time leaves nobody.
"""

import asyncio
from pathlib import Path
from typing import Self

END_S = 10.0
_SCRIPT = 'trap "" HUP INT TERM; echo; read -r _; [ -z "$1" ] || rm -rf -- "$1"; kill -s KILL 0'


class Janitor:
    """An async context manager. `folder` is removed when the block ends, or when this process does."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._group = 0
        self._process: asyncio.subprocess.Process | None = None

    @property
    def group(self) -> int:
        """The process group that children must join."""
        assert self._group, "the janitor is not there yet"
        return self._group

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """A first one leads a new group; a successor joins it, which needs a member that is alive."""
        folder = "" if self._folder is None else str(self._folder)
        self._process = await asyncio.create_subprocess_exec(
            "/bin/sh",
            *("-c", _SCRIPT, "baton-janitor", folder),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            process_group=self._group,
        )
        self._group = self._group or self._process.pid
        assert self._process.stdout is not None
        async with asyncio.timeout(END_S):  # its line says that a Ctrl-C cannot reach it any more
            await self._process.stdout.readline()

    async def stop(self) -> None:
        """Everybody who is still in the group is killed. Nothing to do when it has ended already."""
        if self._process is None or self._process.stdin is None:
            return
        self._process.stdin.close()
        async with asyncio.timeout(END_S):
            await self.wait_end()
        self._process, self._group = None, 0

    async def wait_end(self) -> None:
        """Until it is gone; the caller bounds the wait."""
        assert self._process is not None, "the janitor was never started"
        await self._process.wait()
