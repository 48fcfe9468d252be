"""How soon a cluster is ready and what it costs when idle: `python -m tests.bench.start [--repeats 3] [--out FILE]`.

`baton up` on the demo model with its defaults: wall seconds until every process is ready and the router knows them all,
then processor time of each process over ten idle seconds, as a share of one core.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
from pathlib import Path

import psutil

from common.core.clock import SystemClock
from tests.cluster.house import House, house

IDLE_S = 10.0
SETTLE_S = 3.0
CLOCK = SystemClock()


async def main() -> None:
    arguments = parse()
    ready, idle = [], []
    for _ in range(arguments.repeats):
        began = CLOCK.monotonic()
        async with house(ci_tier=False) as cluster:
            ready.append(CLOCK.monotonic() - began)
            await asyncio.sleep(SETTLE_S)
            idle.append(await idle_shares(cluster))
    shares = {name: statistics.median(each[name] for each in idle) for name in idle[0]}
    figures = {"ready_s": statistics.median(ready), "idle_cores": sum(shares.values()), "idle_by_process": shares}
    print(json.dumps(figures, indent=1))
    if arguments.out:
        conditions = {
            "command": "python -m tests.bench.start",
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "ready_samples_s": ready,
        }
        arguments.out.write_text(json.dumps({"conditions": conditions, "figures": figures}, indent=1) + "\n")


async def idle_shares(cluster: House) -> dict[str, float]:
    """Cores used by each process while nobody asks for anything."""
    processes = {
        name: psutil.Process(supervised.child.pid) for name, supervised in cluster.cluster.supervisor.processes.items()
    }
    processes["valkey"] = psutil.Process(cluster.cluster.valkey.pid)
    before = {name: sum(process.cpu_times()[:2]) for name, process in processes.items()}
    await asyncio.sleep(IDLE_S)
    return {name: (sum(process.cpu_times()[:2]) - before[name]) / IDLE_S for name, process in processes.items()}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
