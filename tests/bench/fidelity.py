"""How far the simulator is off, stage by stage: `python -m tests.bench.fidelity --model FOLDER [--seconds 150]
[--per-s 2] [--set NAME=VALUE]... [--out FILE]`.

One prefill and one decode process. A first mixed load teaches the calibration, a second one of the same kind and length
is compared with its own replay: twice seconds x per-s requests in all. Another process that computes beside it makes
steps longer by chance, which no model foretells: run it on a machine that does nothing else. What others took is told.
"""

import argparse
import asyncio
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from common.config.loader import load
from common.core.entropy import SystemEntropy
from services.local.bench.cpu_watch import CpuShares, CpuWatch
from services.local.calibrate import Checked, Effort, calibrate
from tests.cluster.house import CLOCK, house

BAR = 0.15
"""Median error of the time to the first token and of the time between tokens."""


async def measure(model: str, effort: Effort, others: tuple[str, ...]) -> tuple[Checked, CpuShares]:
    """The errors of every stage, and whose processor time it was meanwhile."""
    settings = (f"model.path={model}", "local.gateways=0", "engine.threads=1", *others)
    async with house(settings=settings, ci_tier=False) as cluster:
        with tempfile.TemporaryDirectory(prefix="baton-fidelity-") as folder:
            with CpuWatch(lambda: (), CLOCK) as watch:
                checked = await calibrate(
                    cluster.client,
                    effort,
                    Path(folder) / "calibration.json",
                    config=load(settings=settings),
                    console=Console(),
                    clock=CLOCK,
                    entropy=SystemEntropy(),
                )
            assert watch.shares is not None
            return checked, watch.shares


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m tests.bench.fidelity", description=__doc__)
    arguments.add_argument("--model", required=True)
    arguments.add_argument("--seconds", type=float, default=150.0)
    arguments.add_argument("--per-s", type=float, default=2.0)
    arguments.add_argument("--set", action="append", default=[], help="as `baton up` takes it")
    arguments.add_argument("--out", type=Path)
    asked = arguments.parse_args()
    effort = Effort(seconds=asked.seconds, per_s=asked.per_s, check=True)
    checked, shares = asyncio.run(measure(asked.model, effort, tuple(asked.set)))
    headline = {each.stage: each.error for each in checked.free if each.stage in ("ttft", "itl")}
    print(", ".join(f"{stage} {error:.1%}" for stage, error in headline.items()), f"(bar {BAR:.0%})")
    print(f"of the machine others used {shares.foreign:.0%}, we {shares.own:.0%}")
    if asked.out is not None:
        told = {
            "model": Path(asked.model).name,
            "seconds": asked.seconds,
            "per_s": asked.per_s,
            "settings": asked.set,
            "cores": os.cpu_count(),
            "shares": asdict(shares),
            "stages": [asdict(each) for each in checked.free],
            "stages_as_routed": [asdict(each) for each in checked.as_routed],
        }
        asked.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
