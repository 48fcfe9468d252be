"""`baton up`: a cluster on this machine until Ctrl-C."""

import asyncio
import signal

from rich.console import Console

from common.config.config import Config
from common.core.clock import Clock
from common.core.entropy import Entropy
from common.observe.announce import Announcement, Phase
from services.local.cluster import FIRST_ROUTER_PORT, LocalCluster, local_cluster
from services.local.topology import Overrides


class Progress:
    """Prints what the processes announce, a line each."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._began = clock.monotonic()

    def __call__(self, said: Announcement) -> None:
        seconds = self._clock.monotonic() - self._began
        where = f"{said.address}  metrics http://{said.metrics}/metrics" if said.phase is Phase.READY else said.detail
        style = {Phase.READY: "green", Phase.FAILED: "red"}.get(said.phase, "dim")
        self._console.print(f"{seconds:6.1f} s  [{style}]{said.name:<10} {said.phase:<9}[/] {where}", highlight=False)


async def up(
    config: Config,
    overrides: Overrides,
    *,
    console: Console,
    clock: Clock,
    entropy: Entropy,
    first_router_port: int = FIRST_ROUTER_PORT,
) -> None:
    """Start, tell, wait for Ctrl-C, stop everything. Raises StartupError when a process cannot start."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    progress = Progress(console, clock)
    async with local_cluster(
        config, overrides, clock=clock, entropy=entropy, tell=progress, first_router_port=first_router_port
    ) as cluster:
        _tell_ready(console, cluster)
        await stop.wait()  # bounded: by Ctrl-C or SIGTERM
        console.print("stopping: running answers may finish ...", style="dim")
    console.print("stopped", style="dim")


def _tell_ready(console: Console, cluster: LocalCluster) -> None:
    address = cluster.router_address()
    console.print(f"        valkey     ready     {cluster.valkey.url}", highlight=False)
    console.print(f"\nready. logs: {cluster.run_dir}", highlight=False)
    console.print(f'try:   baton generate --router {address} "def read_json(path):"', highlight=False)
    console.print("end:   Ctrl-C\n", highlight=False)
