"""What the processes of a cluster hold while they serve: memory, open files, threads, log files."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import psutil

from tests.cluster.house import House

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """Of one process, at one moment."""

    rss_bytes: int
    num_files: int
    num_threads: int


@dataclass(slots=True)
class Watch:
    """Looks, one after the other; each by the process's name. `log_bytes`: of all log files together, at each look."""

    looks: list[dict[str, Vitals]] = field(default_factory=list)
    log_bytes: list[int] = field(default_factory=list)

    def growth(self) -> Iterator[tuple[str, Vitals, Vitals]]:
        """Of every process, as it was at the first look and at the last."""
        first, last = self.looks[0], self.looks[-1]
        return ((name, first[name], last[name]) for name in sorted(first))

    def look(self, cluster: House) -> None:
        supervised = cluster.cluster.supervisor.processes
        pids = {name: process.child.pid for name, process in supervised.items()} | {"valkey": cluster.valkey.pid}
        self.looks.append({name: _vitals(pid) for name, pid in pids.items() if pid is not None})
        self.log_bytes.append(sum(file.stat().st_size for file in cluster.cluster.run_dir.glob("*.log*")))


def _vitals(pid: int) -> Vitals:
    process = psutil.Process(pid)
    with process.oneshot():
        return Vitals(
            rss_bytes=process.memory_info().rss, num_files=process.num_fds(), num_threads=process.num_threads()
        )


@asynccontextmanager
async def watching(cluster: House, *, warm_s: float, every_s: float) -> AsyncIterator[Watch]:
    """Looks at the cluster beside what the block does: first after `warm_s`, last at its end."""
    watch = Watch()

    async def look() -> None:
        await asyncio.sleep(warm_s)
        while True:
            watch.look(cluster)
            await asyncio.sleep(every_s)

    looking = asyncio.create_task(look())
    try:
        yield watch
        watch.look(cluster)
    finally:
        looking.cancel()
