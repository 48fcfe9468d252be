"""Bounds of the model and the machine that a benchmark is about to measure, as far as they can be had."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable, Sequence
from pathlib import Path

from common.config.config import Config
from common.core.errors import BatonError
from common.model.description import ModelDescription, describe
from common.model.effort import SizedModel
from services.local.bench.bounds import Bounds, Ceilings
from services.local.bench.ways import usable_cores
from services.local.topology import ROOT

LIMIT_S = 90.0
"""Chosen: importing torch on a machine that is busy, and some seconds of products."""

MODULE = (sys.executable, "-m", "services.local.bench.ceilings")


async def measured_bounds(
    config: Config, say: Callable[[str], None], *, command: Sequence[str] = MODULE, limit_s: float = LIMIT_S
) -> Bounds | None:
    """None where nothing is multiplied (the simulated executor), or where it was said why there are none."""
    if config.engine.executor == "sim":
        return None
    try:
        described = await asyncio.to_thread(describe, Path(config.model.path), verify_manifest=False)
    except BatonError as error:
        say(f"no bounds: {error.message}")
        return None
    arguments = _arguments(config, described)
    status, out, err = await _said([*command, *arguments], limit_s)
    if status != 0:
        say(f"no bounds: {err or f'ceilings were not measured within {limit_s:.0f} s'}")
        return None
    found = json.loads(out)
    ceilings = Ceilings(bytes_per_s=found["bytes_per_s"], flops_per_s=found["flops_per_s"])
    say(
        f"this {found['device']}: {ceilings.bytes_per_s / 1e9:.4g} GB/s moved, "
        f"{ceilings.flops_per_s / 1e9:.4g} GFLOP/s of {found['dtype']} products"
    )
    sized = SizedModel.of(described.spec, dtype=found["dtype"], kv_dtype=config.engine.kv_dtype)
    return Bounds(model=sized, ceilings=ceilings)


def _arguments(config: Config, described: ModelDescription) -> list[str]:
    wanted = {"device": config.engine.device, "dtype": config.model.dtype, "stored": described.stored_dtype}
    named = [word for name, value in wanted.items() for word in (f"--{name}", value)]
    return [*named, "--threads", str(config.engine.threads or len(usable_cores()))]


async def _said(command: Sequence[str], limit_s: float) -> tuple[int | None, str, str]:
    """Status, standard output and the end of the errors; no status where it took too long."""
    child = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=PIPE, stderr=PIPE)
    try:
        async with asyncio.timeout(limit_s):
            out, err = await child.communicate()
    except TimeoutError:
        return None, "", ""
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()  # bounded: it was killed
    return child.returncode, out.decode(errors="replace"), err.decode(errors="replace").strip()[-300:]
