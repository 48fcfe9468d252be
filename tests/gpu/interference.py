"""What prefill does to decode on one GPU: `python -m tests.gpu.interference [--out FILE] [--miniature]`. Prints JSON.

NOT RUN YET on a GPU; `--miniature` runs the loops on a CPU for a moment, and its figures mean nothing. First, each
alone on the whole GPU: 32 streams of the 8B shape at 1k of context that decode without a pause, and prompts of 8k
tokens. Then both, in every way at the same load, prompts arriving at half of what was read alone:

    time_sliced    two processes: the driver gives each its turn
    priority       one process, two threads: decode on a stream of high priority
    green          one process, two threads, multiprocessors of their own: three eighths decode's, the others prefill's
    colocated      one engine: every step carries a chunk of 512 prompt tokens beside the streams

Each in a process of its own, which ends by its deadline. Steps are judged by the ITL p99 of decode alone, whatever a
way makes of undisturbed steps. Threads of one process share its interpreter lock: their times hold what that costs.
From a bare checkout.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Any

import torch

from common.engine.device_graph import recorder
from tests.gpu.bars import MOST_DISTURBED
from tests.gpu.engine import finish
from tests.gpu.part import NO_GPU, conditions, keep, part_device, part_parser, tell
from tests.gpu.process_group import die_with_parent
from tests.gpu.roles import FULL, SMALL, Arrivals, Load, Prompts, Scale, Streams
from tests.gpu.sharing import child_reads, green, in_processes, in_threads, on_stream

ROOT = Path(__file__).resolve().parents[2]
ALONE = "alone"
WAYS = ("time_sliced", "priority", "green", "colocated")
HALF = 2
"""Prompts arrive this many times as far apart as they take alone."""


def percentile(values: Sequence[float], percent: int) -> float:
    """NaN of nothing: too slow for a single one."""
    if len(values) < 2:
        return values[0] if values else float("nan")
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def told(steps_s: Sequence[float], arrivals: Arrivals, load: Load, scale: Scale) -> dict[str, object]:
    """`goodput`: decoded tokens per second in steps that were good."""
    undisturbed_s = load.good_s / MOST_DISTURBED
    return {
        "itl_ms_p50": percentile(steps_s, 50) * 1e3,
        "itl_ms_p99": percentile(steps_s, 99) * 1e3,
        "itl_p99_over_undisturbed": percentile(steps_s, 99) / undisturbed_s,
        "goodput_tokens_per_s": sum(each <= load.good_s for each in steps_s) * scale.streams / sum(steps_s),
        "prompts_due": arrivals.num_due,
        "prompts_read": len(arrivals.waits_s),
        "keeps_up": arrivals.keeps_up,
        "ttft_ms_p50": percentile(arrivals.waits_s, 50) * 1e3,
    }


def alone(scale: Scale, device: torch.device) -> dict[str, object]:
    """Each by itself on the whole GPU: what the others are measured by."""
    streams = Streams(scale, device, record=recorder(device) if device.type == "cuda" else None)
    steps_s = streams.steps_until(time.perf_counter() + scale.quiet_s)
    del streams
    return {
        "itl_ms_p50": percentile(steps_s, 50) * 1e3,
        "itl_ms_p99": percentile(steps_s, 99) * 1e3,
        "prompt_ms": Prompts(scale, device).alone_s() * 1e3,
    }


def load_of(undisturbed: dict[str, Any]) -> Load:
    return Load(
        apart_s=HALF * undisturbed["prompt_ms"] / 1e3,
        good_s=MOST_DISTURBED * undisturbed["itl_ms_p99"] / 1e3,
    )


def colocated(scale: Scale, device: torch.device, load: Load) -> tuple[list[float], Arrivals]:
    record = recorder(device) if device.type == "cuda" else None
    streams = Streams(scale, device, record=record, has_guest=True)
    return streams.steps_beside_chunks(time.perf_counter() + scale.loud_s, load.apart_s)


def measured(way: str, scale: Scale, device: torch.device, load: Load, *, is_small: bool) -> dict[str, object]:
    more: dict[str, object] = {}
    if way == "colocated":
        steps_s, arrivals = colocated(scale, device, load)
    elif way == "time_sliced":
        steps_s, arrivals = in_processes(scale, device, load, is_small=is_small)
    elif is_small:
        steps_s, arrivals = in_threads(scale, device, load, None, None)
    elif way == "priority":
        steps_s, arrivals = in_threads(scale, device, load, on_stream(-1, device), on_stream(0, device))
    else:
        decode, prefill, more["partitions"] = green(device)
        steps_s, arrivals = in_threads(scale, device, load, decode, prefill)
    return told(steps_s, arrivals, load, scale) | more


def apart(way: str, deadline_s: float, load: Load | None = None) -> dict[str, Any]:
    """One way in a process of its own; what went wrong there stays there. It answers in a file: libraries print."""
    command = [sys.executable, "-m", "tests.gpu.interference", "--way", way]
    if load is not None:
        command += ["--apart-s", repr(load.apart_s), "--good-s", repr(load.good_s)]
    with TemporaryDirectory() as folder, Path(folder, "said").open("w+", errors="replace") as said:
        answer = Path(folder, "found.json")
        command += ["--out", str(answer)]
        try:
            done = subprocess.run(command, cwd=ROOT, stdout=said, stderr=said, timeout=deadline_s, check=False)
        except subprocess.TimeoutExpired:
            return {"failed": f"no answer within {deadline_s:.0f} s"}
        if done.returncode != 0 or not answer.exists():
            said.seek(0)
            return {"failed": f"ended with {done.returncode}: {said.read()[-300:]}"}
        found: dict[str, Any] = json.loads(answer.read_text())
        return found


def every_way(device: torch.device, deadline_s: float, out: Path | None) -> dict[str, Any]:
    """Without figures of each alone there is no load to compare the ways under."""
    found: dict[str, Any] = conditions(device) | {"undisturbed": apart(ALONE, deadline_s), "ways": {}}
    if "failed" not in found["undisturbed"]:
        for way in WAYS:
            found["ways"][way] = apart(way, deadline_s, load_of(found["undisturbed"]))
            keep(found, out)
    return found


def main() -> int:
    """0 when every way was measured, 1 when not, 2 without a GPU."""
    parser = part_parser(__doc__)
    parser.add_argument("--way", choices=(ALONE, *WAYS), help="this one, in this process")
    parser.add_argument("--child", action="store_true")
    parser.add_argument("--apart-s", type=float, default=1.0, help="between prompts")
    parser.add_argument("--good-s", type=float, default=1.0, help="of a good step at most")
    parser.add_argument("--deadline-s", type=float, default=45.0, help="of each way")
    given = parser.parse_args()
    is_small: bool = given.miniature
    scale, device = SMALL if is_small else FULL, part_device(is_small=is_small)
    if device is None:
        return NO_GPU
    load = Load(apart_s=given.apart_s, good_s=given.good_s)
    with torch.inference_mode():
        if given.child:
            die_with_parent()
            child_reads(scale, device, load)
            return 0
        if given.way or is_small:
            found = alone(scale, device) if given.way in (ALONE, None) else {}
            for way in WAYS if given.way is None else (given.way,):
                if way != ALONE:
                    own = load_of(found) if given.way is None else load
                    found |= measured(way, scale, device, own, is_small=is_small)
            finish(device)
            tell(found, given.out)
            return 0
    found = every_way(device, given.deadline_s, given.out)
    tell(found, given.out)
    return 0 if found["ways"] and not any("failed" in each for each in found["ways"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
