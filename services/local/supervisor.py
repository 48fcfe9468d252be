"""Keeps the processes of a local cluster alive, and ends them in order.

STARTING --announces ready--> READY --exits--> (restart, at most max_restarts a minute) STARTING
    |                           '--exits more often, and no other one of its kind is ready--> FAILED
    |--exit 78: cannot start------> FAILED: the cluster is stopped and the reason is shown
    '--the system cannot run it--'
        but one that was READY before is tried again and again: the others serve
"""

import asyncio
import signal
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.core.clock import Clock
from common.core.errors import Reason, StartupError, Unavailable
from common.core.waiting import wait_done, wait_set
from common.observe.announce import Announcement, Phase
from services.local.child import Child
from services.local.topology import Kind, ProcessSpec

EXIT_CONFIG = 78
STOP_ORDER = (Kind.GATEWAY, Kind.ROUTER, Kind.PREFILL, Kind.DECODE, Kind.VALKEY)
RESTART_PAUSE_S = 0.2  # Chosen: short enough for a test of restarts, long enough not to spin.
RESTART_WINDOW_S = 60.0  # Chosen: what fails at every start does so several times in it.
RETRY_S = 1.0  # Chosen: what the system has not (memory, files, room on a disk) is not there again in a moment.
REPAIR_S = 5.0  # Chosen: somebody has to mend a file, or give a port back; each try costs a second of a core.


@dataclass(slots=True)
class Supervised:
    """One process, what it last said, how its last run ended. Writer: the supervisor."""

    spec: ProcessSpec
    child: Child
    last: Announcement | None = None
    restarts: int = 0
    status: int | None = None
    """Exit status of the last run that ended, negative for a signal."""
    started: deque[float] = field(default_factory=deque)
    has_served: bool = False
    obstacle: str = ""
    """Why it could not be run, or started, at the last try."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor:
    """Owns the children. `run` lives as long as the cluster; `stop` ends it."""

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        *,
        log_dir: Path,
        group: int,
        max_restarts: int,
        clock: Clock,
        tell: Callable[[Announcement], None],
        prepare: Callable[[], None],
    ) -> None:
        """`prepare` sees to what a child needs before it starts. May raise OSError."""
        self._clock = clock
        self._prepare = prepare
        self._tell = tell
        self._max_restarts = max_restarts
        self._stopping = asyncio.Event()
        self._failure: StartupError | None = None
        self._failed = asyncio.Event()
        self.processes = {spec.name: self._supervise(spec, log_dir, group) for spec in specs}

    def _supervise(self, spec: ProcessSpec, log_dir: Path, group: int) -> Supervised:
        log = log_dir / f"{spec.name}.log"
        child = Child(spec, log=log, group=group, heard=lambda said: self._hear(spec.name, said))
        return Supervised(spec=spec, child=child)

    async def run(self) -> None:
        """Every child until `stop`. Raises StartupError when one of them cannot start."""
        async with asyncio.TaskGroup() as group:
            for process in self.processes.values():
                group.create_task(self._keep(process), name=process.spec.name)
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _all_ready(self) -> None:
        for process in self.processes.values():
            await process.ready.wait()  # bounded: by `timeout_s` of wait_ready

    async def wait_ready(self, timeout_s: float) -> None:
        """Until every process announced itself. Raises StartupError, or Unavailable naming who is late."""
        are_ready = await wait_done(self._all_ready(), timeout_s, hurry=self._failed)
        self._raise_failure()
        if not are_ready:
            late = [name for name, process in self.processes.items() if not process.ready.is_set()]
            raise Unavailable(message=f"not ready after {timeout_s:g} s: {', '.join(late)}; see their logs")

    async def stop(self, grace_s: float, hurry: asyncio.Event) -> None:
        """Routers first, so that nobody sends work to workers that leave.

        A child that does not end within the grace, or when `hurry` is set, is killed.
        """
        self._stopping.set()
        for kind in STOP_ORDER:
            leaving = [process for process in self.processes.values() if process.spec.kind is kind]
            for process in leaving:
                process.child.end()
            await wait_done(_wait_ends(leaving), grace_s, hurry=hurry)
            for process in leaving:
                process.child.signal(signal.SIGKILL)
                await process.ended.wait()  # bounded: it has ended, or was killed

    async def _keep(self, process: Supervised) -> None:
        try:
            while not self._stopping.is_set():
                process.started.append(self._clock.monotonic())
                try:
                    self._prepare()
                    status = process.status = await process.child.run()
                except OSError as error:
                    await self._wait_possible(process, error)
                    continue
                finally:
                    process.ready.clear()
                if not self._stopping.is_set():
                    await self._pause(self._judge(process, status))
                    process.restarts += 1
        finally:
            process.ended.set()

    async def _wait_possible(self, process: Supervised, error: OSError) -> None:
        """The system could not run it. That ends no cluster that serves, and is not held against the child."""
        process.started.pop()
        obstacle = f"cannot be run: {error.strerror or error}"
        if process.last is None:
            self._give_up(f"{process.spec.name} {obstacle}")
        else:
            self._tell_obstacle(process, obstacle)
        await self._pause(RETRY_S)

    async def _pause(self, seconds: float) -> None:
        """Until then, or until the end of the cluster."""
        await wait_set(self._stopping, seconds)

    def _tell_obstacle(self, process: Supervised, obstacle: str) -> None:
        """Once, however often it is met."""
        if obstacle != process.obstacle:
            process.obstacle = obstacle
            detail = f"{obstacle}; trying again"
            self._tell(Announcement(name=process.spec.name, phase=Phase.FAILED, detail=detail))

    def _judge(self, process: Supervised, status: int) -> float:
        """Decide about a child that ended on its own: give the cluster up, or go on, after so many seconds."""
        name = process.spec.name
        now = self._clock.monotonic()
        while process.started and now - process.started[0] > RESTART_WINDOW_S:
            process.started.popleft()
        if status == EXIT_CONFIG:
            said = process.last
            detail = said.detail if said is not None and said.phase is Phase.FAILED else process.child.last_words()
            if process.has_served:  # what it needs was changed under it; nobody else needs to end for that
                process.started.clear()
                self._tell_obstacle(process, f"cannot start: {detail}")
                return REPAIR_S
            self._give_up(f"{name} cannot start: {detail}")
        elif len(process.started) > self._max_restarts:
            often = f"ended {len(process.started)} times within a minute, last {describe_status(status)}"
            obstacle = f"{often}: {process.child.last_words()}"
            if process.has_served and self._has_twin(process):
                self._tell_obstacle(process, obstacle)
                return REPAIR_S
            self._give_up(f"{name} {obstacle}")
        else:
            has_left = status == 0  # `baton drain`, or a signal: its work is done or elsewhere
            phase = Phase.DRAINING if has_left else Phase.FAILED
            detail = "left as it was asked to" if has_left else f"ended {describe_status(status)}"
            self._tell(Announcement(name=name, phase=phase, detail=f"{detail}, restarting"))
        return RESTART_PAUSE_S

    def _has_twin(self, process: Supervised) -> bool:
        """Whether another process does now what this one did."""
        same = [other for other in self.processes.values() if other.spec.kind is process.spec.kind]
        return any(other.ready.is_set() for other in same if other is not process)

    def _give_up(self, why: str) -> None:
        if self._failure is None:
            self._failure = StartupError(message=why, reason=Reason.CONFIG_INVALID)
            self._failed.set()
        self._stopping.set()
        for process in self.processes.values():
            process.child.end()

    def _hear(self, name: str, said: Announcement) -> None:
        process = self.processes[name]
        process.last = said
        if said.phase is Phase.READY:
            process.has_served = True
            process.obstacle = ""
            process.ready.set()
        self._tell(said)


async def _wait_ends(leaving: Sequence[Supervised]) -> None:
    for process in leaving:
        await process.ended.wait()  # bounded: by the grace of `stop`


def describe_status(status: int) -> str:
    """How a process ended, in words."""
    return f"with status {status}" if status >= 0 else f"by {signal.Signals(-status).name}"
