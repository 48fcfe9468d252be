"""Child processes of the double, all in the process group of one janitor: nothing outlives the test run."""

import asyncio
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from services.local.janitor import Janitor

STOP_S = 10.0


class Children:
    """An async context manager: who still runs at its end is killed, and `folder` removed. Logs lie in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._janitor = Janitor(folder)

    async def __aenter__(self) -> Self:
        await self._janitor.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._janitor.stop()

    async def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> asyncio.subprocess.Process:
        """The process; both its outputs go to `<name>.log`. Raises OSError when there is no such program."""
        with (self.folder / f"{name}.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *command,
                cwd=cwd or self.folder,
                env=os.environ if environment is None else environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=self._janitor.group,
            )

    def log(self, name: str, *, last: int = 20) -> str:
        """The last lines of a log, for the message of a failure."""
        file = self.folder / f"{name}.log"
        return "\n".join(file.read_text(errors="replace").splitlines()[-last:]) if file.exists() else "no log"

    def keep_logs(self, folder: str) -> None:
        """A copy of all logs, where a folder is named."""
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            for file in self.folder.glob("*.log"):
                shutil.copy(file, folder)


async def stop(process: asyncio.subprocess.Process, *, within_s: float = STOP_S) -> int:
    """SIGTERM, and SIGKILL when that is not heeded. The exit status; nothing to do for one that has ended."""
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(within_s):
                return await process.wait()
        except TimeoutError:
            process.kill()
    return await process.wait()  # bounded: ended or killed
