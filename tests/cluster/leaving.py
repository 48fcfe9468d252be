"""SIGTERM to one process of a cluster, and what must come of it."""

import signal

from services.local.supervisor import Supervised
from tests.cluster.house import CLOCK, PATIENCE_S, House


async def leave(cluster: House, process: Supervised, *, within_s: float) -> float:
    """SIGTERM, until its successor is ready; it must have exited 0. Seconds that its end took."""
    took_s = await end(cluster, process, within_s=within_s)
    await wait_back(cluster, process)
    return took_s


async def end(cluster: House, process: Supervised, *, within_s: float) -> float:
    """SIGTERM, until it is gone with exit code 0. Seconds that it took."""
    process.ready.clear()
    process.status = None
    began = CLOCK.monotonic()
    process.child.signal(signal.SIGTERM)

    async def is_gone() -> bool:
        return process.status is not None

    await cluster.until(is_gone, timeout_s=within_s)
    assert process.status == 0, f"{process.spec.name} ended with {process.status}"
    return CLOCK.monotonic() - began


async def wait_back(cluster: House, process: Supervised, *, timeout_s: float = PATIENCE_S) -> None:
    """Until the successor of a process that has ended is ready."""

    async def is_back() -> bool:
        return process.ready.is_set()

    await cluster.until(is_back, timeout_s=timeout_s)
