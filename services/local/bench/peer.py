"""Another project's server, started as its file says, stopped while it is not measured."""

import asyncio
import json
import shlex
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from common.config.environment import child_environment
from common.core.errors import StartupError
from services.local.bench.event_stream import Server, is_healthy

READY_S = 600.0
"""Chosen: a first start may compile its model for minutes."""

TELLING = ("vllm", "openvino", "torch", "transformers", "llama")

LOOK_EVERY_S = 0.5
GRACE_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSpec:
    """One entry of a peers file. Braces in `command` and `env` name a `Places` field, `port` or `threads`."""

    name: str
    command: str
    env: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, object] = field(default_factory=dict)
    health: str = "/health"
    model: str = "m"


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where things lie on this machine. `gguf`: the same model for peers that read that format, if there is one."""

    here: Path
    venvs: Path
    model: Path
    gguf: Path | None = None

    def fill(self, text: str, *, port: int, threads: int) -> str:
        gguf = str(self.gguf or "")
        return text.format(
            here=self.here,
            venvs=self.venvs,
            model=self.model,
            gguf=gguf,
            ovmodel=gguf,
            port=port,
            threads=threads,
        )


def read_peers(file: Path) -> Mapping[str, PeerSpec]:
    """The entries of a peers file by name. Raises StartupError when it is not one."""
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
        return {name: _spec(name, entry) for name, entry in entries.items()}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise StartupError(message=f"{file} is no peers file: {error!r}") from error


def _spec(name: str, entry: Mapping[str, object]) -> PeerSpec:
    env, body = entry.get("env") or {}, entry.get("body") or {}
    assert isinstance(env, Mapping)
    assert isinstance(body, Mapping)
    return PeerSpec(
        name=name,
        command=str(entry["cmd"]),
        env=env,
        body=body,
        health=str(entry.get("health", "/health")),
        model=str(entry.get("model_name", "m")),
    )


def versions_in(program: Path) -> Mapping[str, str]:
    """What a peer's virtual environment holds of the packages that matter to its speed: name -> version."""
    found = {}
    for folder in sorted(program.parent.parent.glob("lib/python*/site-packages/*.dist-info")):
        name, _, version = folder.name.removesuffix(".dist-info").partition("-")
        if name.lower().startswith(TELLING):
            found[name] = version
    return found


def why_missing(spec: PeerSpec, places: Places) -> str | None:
    """What this machine lacks to start a peer; None: nothing."""
    program = Path(shlex.split(places.fill(spec.command, port=0, threads=0))[0])
    if not program.exists():
        return f"{program.name} of {program.parent.parent.name} is not in the folder of --venvs"
    if places.gguf is None and any(word in spec.command for word in ("{gguf}", "{ovmodel}")):
        return "it reads GGUF: give --gguf"
    return None


class Peer:
    """A running peer. Made by `running_peer`; paused whenever its block says so."""

    def __init__(
        self, spec: PeerSpec, server: Server, process: asyncio.subprocess.Process, log: Path, program: Path
    ) -> None:
        self.spec = spec
        self._program = program
        self.server = server
        self._process = process
        self._log = log

    def pids(self) -> list[int]:
        return [self._process.pid]

    def describe(self) -> str:
        """For the results: how it was started, and from what."""
        versions = " ".join(f"{name} {version}" for name, version in versions_in(self._program).items())
        return f"{self.spec.command} ({versions})"

    async def wait_ready(self) -> None:
        """Raises StartupError when it ends, or is not healthy in time."""
        try:
            async with asyncio.timeout(READY_S):
                while not await is_healthy(self.server, self.spec.health, LOOK_EVERY_S * 4):
                    if self._process.returncode is not None:
                        raise StartupError(message=f"{self.spec.name} ended at start: {self._last_words()}")
                    await asyncio.sleep(LOOK_EVERY_S)
        except TimeoutError:
            raise StartupError(message=f"{self.spec.name} is not healthy after {READY_S:g} s") from None

    def pause(self) -> None:
        """Uses no processor time until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    async def stop(self) -> None:
        """Asked first, killed then; with every child."""
        family = self._family()
        self.resume()
        with suppress(ProcessLookupError):
            self._process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                await self._process.wait()
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        await self._process.wait()  # bounded: it was killed

    def _signal(self, number: signal.Signals) -> None:
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _family(self) -> list[psutil.Process]:
        try:
            root = psutil.Process(self._process.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _last_words(self) -> str:
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1][:300] if lines else "it said nothing"


@asynccontextmanager
async def running_peer(
    spec: PeerSpec, places: Places, *, port: int, threads: int, group: int, logs: Path
) -> AsyncIterator[Peer]:
    """Started and healthy inside the block, gone after it. `group`: a janitor's, so that it never outlives us."""
    command = shlex.split(places.fill(spec.command, port=port, threads=threads))
    env = {name: places.fill(value, port=port, threads=threads) for name, value in spec.env.items()}
    log = logs / f"{spec.name}.log"
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=child_environment(env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=group,
        )
    peer = Peer(spec, Server(name=spec.name, port=port), process, log, Path(command[0]))
    try:
        await peer.wait_ready()
        yield peer
    finally:
        await peer.stop()
