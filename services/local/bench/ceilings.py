"""What this machine reaches, measured in a process of its own, so that nothing of it stays: prints one JSON object.

    python -m services.local.bench.ceilings --device auto --dtype auto --stored bfloat16 --threads 2

`baton bench` runs it before it measures anything else; `yardstick.py` reads it.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from common.core.clock import SystemClock
from common.core.errors import BatonError, StartupError

REPEATS = 10


def main(arguments: Sequence[str]) -> int:
    """0, or 1 with a sentence."""
    parser = argparse.ArgumentParser(prog="python -m services.local.bench.ceilings")
    parser.add_argument("--device", default="auto", help="as engine.device")
    parser.add_argument("--dtype", default="auto", help="as model.dtype")
    parser.add_argument("--stored", required=True, help="the weights' type")
    parser.add_argument("--threads", type=int, required=True)
    given = parser.parse_args(arguments)
    try:
        found = measured(given.device, given.dtype, given.stored, given.threads)
    except BatonError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


def measured(device_name: str, asked: str, stored: str, threads: int) -> dict[str, object]:
    """Where, in which type, and how much. Raises StartupError for what is not there."""
    try:
        from common.engine.device import find_device
        from common.model.load import DTYPES, choose_dtype
        from kernels.bench.ceilings import measured_ceilings
        from kernels.bench.host_ceilings import host_ceilings
    except ModuleNotFoundError as missing:
        raise StartupError(message=f"{missing.name} is not installed") from missing
    device = find_device(device_name)
    dtype = choose_dtype(asked, stored=stored, device=device.type)
    if device.type == "cpu":
        found = host_ceilings(DTYPES[dtype], num_threads=threads, now=SystemClock().monotonic)
    else:
        found = measured_ceilings(device, REPEATS, DTYPES[dtype])
    return {"device": device.type, "dtype": dtype, **asdict(found)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
