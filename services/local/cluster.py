"""A whole cluster on this machine: embedded Valkey, workers, routers, in a folder of its own."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from common.config.config import Config
from common.core.clock import Clock
from common.core.entropy import Entropy
from common.observe.announce import Announcement, Phase
from services.local.ports import choose_ports
from services.local.supervisor import Supervised, Supervisor
from services.local.topology import Kind, Overrides, service_specs
from services.local.valkey import EmbeddedValkey

FIRST_ROUTER_PORT = 7450  # Chosen: unassigned, easy to remember; `baton generate` looks here first.
READY_S = 600.0  # A large model may load for minutes; the announcements show that it does.
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalCluster:
    """A running cluster, as its starter sees it."""

    supervisor: Supervisor
    valkey: EmbeddedValkey
    run_dir: Path

    def of(self, kind: Kind) -> Sequence[Supervised]:
        return [process for process in self.supervisor.processes.values() if process.spec.kind is kind]

    def router_address(self, number: int = 0) -> str:
        said = self.of(Kind.ROUTER)[number].last
        assert said is not None, "the routers are not ready yet"
        return said.address


@asynccontextmanager
async def local_cluster(
    config: Config,
    overrides: Overrides,
    *,
    clock: Clock,
    entropy: Entropy,
    tell: Callable[[Announcement], None],
    first_router_port: int = FIRST_ROUTER_PORT,
) -> AsyncIterator[LocalCluster]:
    """Everything started and ready inside the block; nothing left after it: no process, no socket, no file.

    Raises StartupError when a process cannot start, with its reason.
    """
    run_dir, is_ours = _run_dir(config)
    try:
        secret_file = run_dir / "secret"
        _write_secret(secret_file, entropy)
        async with EmbeddedValkey() as valkey:
            specs = service_specs(
                config,
                overrides,
                redis_url=valkey.url,
                secret_file=secret_file,
                router_ports=choose_ports(first_router_port, config.local.routers),
            )
            supervisor = Supervisor(
                specs, log_dir=run_dir, max_restarts=config.local.max_restarts, clock=clock, tell=tell
            )
            cluster = LocalCluster(supervisor=supervisor, valkey=valkey, run_dir=run_dir)
            async with _running(cluster, tell, grace_s=config.liveness.drain_s + 5.0):
                yield cluster
    finally:
        if is_ours:
            shutil.rmtree(run_dir, ignore_errors=True)


@asynccontextmanager
async def _running(
    cluster: LocalCluster, tell: Callable[[Announcement], None], *, grace_s: float
) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        group.create_task(cluster.supervisor.run(), name="supervisor")
        keeper = group.create_task(_keep_valkey(cluster.valkey, tell), name="valkey keeper")
        try:
            await cluster.supervisor.wait_ready(READY_S)
            yield
        finally:
            await cluster.supervisor.stop(grace_s)
            keeper.cancel()


async def _keep_valkey(valkey: EmbeddedValkey, tell: Callable[[Announcement], None]) -> None:
    """Valkey holds hints only: one that dies is started again, empty, on the same port."""
    while True:
        await valkey.wait_end()
        tell(Announcement(name="valkey", phase=Phase.FAILED, detail="ended, restarting empty"))
        await valkey.start()


def _run_dir(config: Config) -> tuple[Path, bool]:
    if config.local.run_dir:
        folder = Path(config.local.run_dir)
        folder.mkdir(parents=True, exist_ok=True)
        return folder, False
    return Path(tempfile.mkdtemp(prefix="baton-")), True


def _write_secret(file: Path, entropy: Entropy) -> None:
    file.touch(mode=0o600)
    file.write_text(f"{entropy.bits(8 * SECRET_BYTES):0{2 * SECRET_BYTES}x}\n")
