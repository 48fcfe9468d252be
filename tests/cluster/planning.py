"""A planner beside a local cluster, which has none of its own."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.local.topology import ROOT, Kind
from tests.cluster.house import House


class PlannerProcess:
    """Configured as the cluster's workers are. Writer: the test."""

    def __init__(self, cluster: House) -> None:
        command = cluster.worker(Kind.DECODE).spec.command
        self._command = [sys.executable, "-m", "services.planner", *command[command.index("--name") :]]
        self._command[self._command.index("--name") + 1] = "planner-0"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Until it has decided for the first time."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(40.0):
            async for line in self._process.stdout:
                if json.loads(line)["phase"] == "ready":
                    return
        pytest.fail("the planner ended before it was ready")

    async def leave(self) -> int:
        """SIGTERM; its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10.0):
            return await self._process.wait()

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()  # bounded: killed


@asynccontextmanager
async def planner(cluster: House) -> AsyncIterator[PlannerProcess]:
    made = PlannerProcess(cluster)
    try:
        await made.start()
        yield made
        assert await made.leave() == 0
    finally:
        await made.kill()
