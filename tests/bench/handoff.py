"""What the relay costs: `python -m tests.bench.handoff --model FOLDER [--prompt 2048] [--repeats 7] [--out FILE]`.

One prefill and one decode worker, one thread each, real processes on loopback. For each fresh prompt: time to index 0
(TTFT), to index 1, and the median time between later tokens (one decode step and the way to the client). The hand-off's
cost is (index 1 - index 0) minus one step. Then the same prompt's first part again with a new end: cached TTFT.

The bound comes first: bytes of KV over the loopback rate that `baton doctor` measures.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import torch

from common.core.clock import SystemClock
from services.local.topology import Kind
from tests.cluster.house import Ask, House, house

CACHED_SHARE = 15 / 16  # 1,920 of 2,048
OUTPUT_TOKENS = 12
CLOCK = SystemClock()


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One request, in seconds. `foreign_cpu` is the share of the machine that others used meanwhile."""

    ttft_s: float
    second_s: float
    step_s: float
    foreign_cpu: float

    @property
    def handoff_share(self) -> float:
        """The hand-off's cost as a share of TTFT: the bar is 0.10."""
        return (self.second_s - self.step_s) / self.ttft_s


async def main() -> None:
    arguments = parse()
    settings = (f"model.path={arguments.model}", f"model.dtype={arguments.dtype}", "engine.memory_fraction=0.05")
    async with house(settings=(*settings, "router.local_prompt_tokens=128"), ci_tier=False) as cluster:
        layout = (await cluster.status(cluster.worker(Kind.DECODE))).layout
        kv_bytes = layout.page_bytes * -(-arguments.prompt // layout.page_size)
        chance = random.Random(7)
        await measure(cluster, fresh(chance, arguments.prompt))  # warm-up
        cold, warm = [], []
        for _ in range(arguments.repeats):
            prompt = fresh(chance, arguments.prompt)
            cold.append(await measure(cluster, prompt))
            kept = int(arguments.prompt * CACHED_SHARE)
            warm.append(await measure(cluster, (*prompt[:kept], *fresh(chance, arguments.prompt - kept))))
    report(arguments, kv_bytes, cold, warm)


async def measure(cluster: House, prompt: tuple[int, ...]) -> Sample:
    """One request alone on the cluster."""
    own = [psutil.Process(process.child.pid) for process in cluster.cluster.supervisor.processes.values()]
    own.append(psutil.Process())
    before, busy_before, began = cpu_of(own), machine_cpu(), CLOCK.monotonic()
    told = await cluster.ask(Ask(tokens=prompt, max_tokens=OUTPUT_TOKENS), timeout_s=300.0)
    told.check_whole()
    elapsed = CLOCK.monotonic() - began
    foreign = (machine_cpu() - busy_before) - (cpu_of(own) - before)
    gaps = [later - earlier for earlier, later in zip(told.times, told.times[1:], strict=False)]
    return Sample(
        ttft_s=told.times[0] - began,
        second_s=gaps[0],
        step_s=statistics.median(gaps[1:-1]),
        foreign_cpu=max(0.0, foreign) / (elapsed * (os.cpu_count() or 1)),
    )


def report(arguments: argparse.Namespace, kv_bytes: int, cold: list[Sample], warm: list[Sample]) -> None:
    """Print the medians, and keep every sample."""
    figures = {
        "kv_bytes": kv_bytes,
        "ttft_cold_s": statistics.median(sample.ttft_s for sample in cold),
        "ttft_cached_s": statistics.median(sample.ttft_s for sample in warm),
        "step_s": statistics.median(sample.step_s for sample in cold),
        "index_1_minus_0_s": statistics.median(sample.second_s for sample in cold),
        "handoff_share_of_ttft": statistics.median(sample.handoff_share for sample in cold),
        "foreign_cpu_max": max(sample.foreign_cpu for sample in (*cold, *warm)),
    }
    figures["cached_speedup"] = figures["ttft_cold_s"] / figures["ttft_cached_s"]
    conditions = {
        "command": f"python -m tests.bench.handoff --model {arguments.model.name} --prompt {arguments.prompt}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
        "dtype": arguments.dtype,
        "repeats": arguments.repeats,
    }
    for name, value in figures.items():
        print(f"{name:>24}  {value:.6g}")
    samples = {"cold": [asdict(sample) for sample in cold], "cached": [asdict(sample) for sample in warm]}
    if arguments.out:
        arguments.out.write_text(json.dumps({"conditions": conditions, "figures": figures, **samples}, indent=1) + "\n")


def fresh(chance: random.Random, length: int) -> tuple[int, ...]:
    return tuple(chance.randrange(10, 4000) for _ in range(length))


def cpu_of(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def machine_cpu() -> float:
    times = psutil.cpu_times()
    return times.user + times.system + times.nice


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/demo"))
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--prompt", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
