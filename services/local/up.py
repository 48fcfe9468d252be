"""`baton up`: a cluster on this machine until Ctrl-C."""

import asyncio

from rich.console import Console

from common.config.config import Config
from common.core.clock import Clock
from common.core.entropy import Entropy
from services.local.cluster import LocalCluster, local_cluster
from services.local.exits import Exit
from services.local.interrupt import Interrupt
from services.local.ports import FIRST_GATEWAY_PORT, FIRST_ROUTER_PORT
from services.local.progress import Progress
from services.local.topology import Kind, Overrides


async def up(
    config: Config,
    overrides: Overrides,
    *,
    console: Console,
    clock: Clock,
    entropy: Entropy,
    first_router_port: int = FIRST_ROUTER_PORT,
) -> Exit:
    """Start, tell, wait for Ctrl-C, stop everything. Raises StartupError when a process cannot start."""
    interrupt = Interrupt(lambda: console.print("stopping: running answers may finish; Ctrl-C again ends them now"))
    is_ready = asyncio.Event()

    async def live() -> None:
        async with local_cluster(
            config,
            overrides,
            clock=clock,
            entropy=entropy,
            tell=Progress(console, clock),
            first_router_port=first_router_port,
            hurry=interrupt.insisted,
        ) as cluster:
            is_ready.set()
            _tell_ready(console, cluster, first_router_port)
            await asyncio.Event().wait()  # bounded: by Ctrl-C, or by a process that cannot be kept alive

    await interrupt.guard(live())
    console.print("stopped: nothing is left running")
    return Exit.OK if is_ready.is_set() else Exit.INTERRUPTED


def _gateways(cluster: LocalCluster) -> list[str]:
    return [cluster.gateway_address(number) for number in range(len(cluster.of(Kind.GATEWAY)))]


def _tell_ready(console: Console, cluster: LocalCluster, first_port: int) -> None:
    addresses = [cluster.router_address(number) for number in range(len(cluster.of(Kind.ROUTER)))]
    is_usual = addresses[0].endswith(f":{FIRST_ROUTER_PORT}")
    where = "" if is_usual else f" --router {addresses[0]}"
    lines = [
        "",
        f"ready: {', '.join(addresses)}",
        *(f"  http  http://{address}/v1" for address in _gateways(cluster)),
        f'  try   baton generate{where} "def read_json(path):"',
        f"  see   baton top{where}",
        f"        baton doctor{where}",
        f"  logs  {cluster.run_dir}",
        "  end   Ctrl-C",
        "",
    ]
    if (gateways := _gateways(cluster)) and not gateways[0].endswith(f":{FIRST_GATEWAY_PORT}"):
        told = f"port {FIRST_GATEWAY_PORT} is taken by another process, which is not this cluster: use http://{gateways[0]}/v1"
        lines.insert(1, told)
    if not addresses[0].endswith(f":{first_port}"):
        lines.insert(1, f"port {first_port} is taken by another process, so the first router has a free one")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
