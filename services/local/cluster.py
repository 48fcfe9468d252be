"""A whole cluster on this machine: embedded Valkey, workers, routers, in a folder of its own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from common.config.config import Config
from common.config.secret import read_secret
from common.core.clock import Clock
from common.core.entropy import Entropy
from common.core.errors import StartupError
from common.directory.access import RedisUser, acl_lines, role_password
from common.observe.announce import Announcement, Phase
from services.local.acquaintance import wait_acquainted
from services.local.janitor import Janitor
from services.local.ports import FIRST_GATEWAY_PORT, FIRST_ROUTER_PORT, check_loopback, choose_ports
from services.local.run_dir import RunDir
from services.local.start_check import check_start
from services.local.supervisor import Supervised, Supervisor
from services.local.topology import Kind, Overrides, dialled, service_specs
from services.local.valkey import EmbeddedValkey

READY_S = 600.0
"""Chosen: a large model may load for minutes; the announcements show that it does."""

ACQUAINTED_S = 60.0
"""Chosen: heartbeats are at most a second apart, and Redis may have to come back in between; a busy machine needs many
of them, and ending a cluster whose processes are all ready helps nobody."""

RETRY_S = 1.0
"""Chosen: a port or a full disk is somebody's to free; each try costs milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalCluster:
    """A running cluster, as its starter sees it."""

    supervisor: Supervisor
    valkey: EmbeddedValkey
    run_dir: Path

    def of(self, kind: Kind) -> Sequence[Supervised]:
        return [process for process in self.supervisor.processes.values() if process.spec.kind is kind]

    def router_address(self, number: int = 0) -> str:
        return self._address(Kind.ROUTER, number)

    def gateway_address(self, number: int = 0) -> str:
        return self._address(Kind.GATEWAY, number)

    def _address(self, kind: Kind, number: int) -> str:
        said = self.of(kind)[number].last
        assert said is not None, f"{kind}-{number} is not ready yet"
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
    first_gateway_port: int = FIRST_GATEWAY_PORT,
    hurry: asyncio.Event | None = None,
) -> AsyncIterator[LocalCluster]:
    """Everything started and ready inside the block; nothing left after it: no process, no socket, no file.

    `hurry` cuts the end short. Raises StartupError when a process cannot start, with its reason.
    """
    check_start(config)
    check_loopback()
    host = dialled(config.listen.host)
    with RunDir.taken(config, entropy) as run_dir:
        async with Janitor(run_dir.fleeting) as janitor:
            secret = read_secret(replace(config.cluster, secret_file=str(run_dir.secret_file)))
            passwords = {user: role_password(secret, user) for user in RedisUser}
            acl = acl_lines(config.cluster.name, passwords)
            async with EmbeddedValkey(acl=acl, group=janitor.group, folder=run_dir.path) as valkey:
                tell(Announcement(name="valkey", phase=Phase.READY, address=valkey.address))
                with (
                    choose_ports(first_router_port, config.local.routers, host) as router_ports,
                    choose_ports(first_gateway_port, config.local.gateways, host) as gateway_ports,
                ):
                    specs = service_specs(
                        config,
                        overrides,
                        redis_url=valkey.url,
                        secret_file=run_dir.secret_file,
                        router_ports=router_ports,
                        gateway_ports=gateway_ports,
                    )
                    supervisor = Supervisor(
                        specs,
                        log_dir=run_dir.path,
                        group=janitor.group,
                        max_restarts=config.local.max_restarts,
                        clock=clock,
                        tell=tell,
                        prepare=run_dir.mend,
                    )
                    cluster = LocalCluster(supervisor=supervisor, valkey=valkey, run_dir=run_dir.path)
                    stop = partial(supervisor.stop, config.liveness.drain_s + 5.0, hurry or asyncio.Event())
                    async with _running(cluster, run_dir, janitor, tell, stop):
                        yield cluster


@asynccontextmanager
async def _running(
    cluster: LocalCluster,
    run_dir: RunDir,
    janitor: Janitor,
    tell: Callable[[Announcement], None],
    stop: Callable[[], Awaitable[None]],
) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        group.create_task(cluster.supervisor.run(), name="supervisor")
        keepers = [
            group.create_task(_keep_valkey(cluster.valkey, run_dir, tell), name="valkey keeper"),
            group.create_task(_keep_janitor(janitor), name="janitor keeper"),
        ]
        try:
            await cluster.supervisor.wait_ready(READY_S)
            await _wait_acquainted(cluster)
            yield
        finally:
            await stop()
            for keeper in keepers:
                keeper.cancel()


async def _wait_acquainted(cluster: LocalCluster) -> None:
    """Every router has met every worker."""
    num_workers = len(cluster.of(Kind.PREFILL)) + len(cluster.of(Kind.DECODE))
    for number in range(len(cluster.of(Kind.ROUTER))):
        await wait_acquainted(cluster.router_address(number), num_workers, ACQUAINTED_S)


async def _keep_valkey(valkey: EmbeddedValkey, run_dir: RunDir, tell: Callable[[Announcement], None]) -> None:
    """Valkey holds hints only: one that dies is started again, empty, on the same port."""
    obstacle = ""
    while True:
        await valkey.wait_end()
        if not obstacle:
            tell(Announcement(name="valkey", phase=Phase.FAILED, detail="ended, restarting empty"))
        try:
            run_dir.mend()
            await valkey.start()
        except (StartupError, OSError) as error:
            # Somebody has its port, the disk is full: the cluster serves without it.
            if obstacle != str(error):  # told once, however often it is met
                obstacle = str(error)
                tell(Announcement(name="valkey", phase=Phase.FAILED, detail=f"{obstacle}; trying again"))
            await asyncio.sleep(RETRY_S)
        else:
            obstacle = ""
            tell(Announcement(name="valkey", phase=Phase.READY, address=valkey.address))


async def _keep_janitor(janitor: Janitor) -> None:
    """Somebody may kill it; its successor joins the group while Valkey is in it."""
    while True:
        await janitor.wait_end()  # bounded: cancelled when the cluster ends
        try:
            await janitor.start()
        except OSError:  # no memory, no more files or processes: later
            await asyncio.sleep(RETRY_S)
