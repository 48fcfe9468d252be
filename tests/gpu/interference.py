"""What prefill does to decode on one GPU: `python -m tests.gpu.interference [--out FILE] [--miniature]`. Prints JSON.

NOT RUN YET on a GPU; `--miniature` runs the loops on a CPU for a moment, and its figures mean nothing. 32 streams of
the 8B shape at 1k of context decode without a pause while prompts of 8k tokens arrive at half of what prefill reads
alone. Ways to share the GPU:

    time_sliced    two processes: the driver gives each its turn
    priority       one process, two threads: decode on a stream of high priority
    green          one process, two threads: decode on a quarter of the multiprocessors, prefill on the others
    colocated      one engine: every step carries a chunk of 512 prompt tokens beside the streams

Each in a process of its own, which ends by its deadline. Undisturbed steps are measured first, in the same process.
Threads of one process share its interpreter lock: their times hold what that costs. From a bare checkout.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import quantiles
from typing import Any

import torch

from tests.gpu.engine import Span, finish
from tests.gpu.part import NO_GPU, conditions, part_device, part_parser, tell
from tests.gpu.roles import FULL, SMALL, Prompts, Scale, Streams

ROOT = Path(__file__).resolve().parents[2]
WAYS = ("time_sliced", "priority", "green", "colocated")
READY_S = 60.0
DECODE_SHARE = 4
"""One of so many multiprocessors is decode's: its steps are bound by bytes."""


def told(quiet: list[float], loud: list[float], waits: list[float], scale: Scale) -> dict[str, object]:
    """`goodput`: decoded tokens per second in steps within 1.5 times the undisturbed p99, and prompt tokens read."""
    limit_s = 1.5 * percentile(quiet, 99)
    return {
        "itl_ms_p50": percentile(loud, 50) * 1e3,
        "itl_ms_p99": percentile(loud, 99) * 1e3,
        "undisturbed_itl_ms_p99": percentile(quiet, 99) * 1e3,
        "itl_p99_over_undisturbed": percentile(loud, 99) / percentile(quiet, 99),
        "ttft_ms_p50": percentile(waits, 50) * 1e3,
        "prompt_tokens_per_s": len(waits) * scale.prompt / sum(loud),
        "goodput_tokens_per_s": sum(each <= limit_s for each in loud) * scale.streams / sum(loud),
    }


def percentile(values: list[float], percent: int) -> float:
    """NaN of nothing: too slow for a single one."""
    if len(values) < 2:
        return values[0] if values else float("nan")
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def colocated(scale: Scale, device: torch.device) -> dict[str, object]:
    """A prompt's chunks ride on decode steps; it arrives when a prompt of half of the capacity would."""
    streams = Streams(scale, device, num_more=1)
    quiet = streams.steps_until(time.perf_counter() + scale.quiet_s)
    place, chunk_s = scale.streams, streams.step((Span(context=scale.streams, first=0, end=scale.chunk),))
    apart_s = 2 * chunk_s * scale.prompt / scale.chunk
    loud, waits = [], []
    end = time.perf_counter() + scale.loud_s
    due, done = time.perf_counter(), 0
    while time.perf_counter() < end:
        if time.perf_counter() < due:
            loud.append(streams.step())
            continue
        upto = min(done + scale.chunk, scale.prompt)
        loud.append(streams.step((Span(context=place, first=done, end=upto),)))
        done = upto
        if done == scale.prompt:
            waits.append(time.perf_counter() - due)
            due, done = due + apart_s, 0
    return told(quiet, loud, waits, scale)


def in_threads(scale: Scale, device: torch.device, decode: Any, prefill: Any) -> dict[str, object]:
    """`decode` and `prefill` are contexts that a thread enters before it touches the GPU: a stream, a partition."""
    waits: list[float] = []
    ready, begin = threading.Event(), threading.Event()
    ends: list[float] = []

    def read_prompts() -> None:
        with prefill(), torch.inference_mode():
            prompts = Prompts(scale, device)
            ready.set()
            if begin.wait(timeout=READY_S):
                waits.extend(prompts.arrive_until(ends[0]))

    reader = threading.Thread(target=read_prompts)
    with decode():
        streams = Streams(scale, device)
        reader.start()
        if not ready.wait(timeout=READY_S):
            raise RuntimeError("prefill was not ready in time")
        quiet = streams.steps_until(time.perf_counter() + scale.quiet_s)
        ends.append(time.perf_counter() + scale.loud_s)
        begin.set()
        loud = streams.steps_until(ends[0])
    reader.join(timeout=READY_S)
    return told(quiet, loud, waits, scale)


def in_processes(scale: Scale, device: torch.device, *, is_small: bool) -> dict[str, object]:
    """Prefill in a child, which says when it is ready and is told when to begin."""
    command = [sys.executable, "-m", "tests.gpu.interference", "--child", *(["--miniature"] if is_small else [])]
    child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    timer = threading.Timer(2 * READY_S, child.kill)
    timer.start()
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        streams = Streams(scale, device)
        if child.stdout.readline() != "ready\n":
            raise RuntimeError("the process that reads prompts did not get ready")
        quiet = streams.steps_until(time.perf_counter() + scale.quiet_s)
        child.stdin.write("begin\n")
        child.stdin.flush()
        loud = streams.steps_until(time.perf_counter() + scale.loud_s)
        waits: list[float] = json.loads(child.stdout.readline())
    finally:
        timer.cancel()
        child.kill()
        child.communicate(timeout=10)
        timer.join(timeout=10)
    return told(quiet, loud, waits, scale)


def read_prompts_as_child(scale: Scale, device: torch.device) -> None:
    prompts = Prompts(scale, device)
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(prompts.arrive_until(time.perf_counter() + scale.loud_s)), flush=True)


def on_stream(priority: int, device: torch.device) -> Callable[[], Any]:
    return lambda: torch.cuda.stream(torch.cuda.Stream(device, priority=priority))  # type: ignore[no-untyped-call]  # torch's


def on_partition(num_processors: int, device: torch.device) -> Callable[[], Any]:
    """A green context: kernels launched inside, and graphs recorded inside, run on so many multiprocessors."""

    @contextmanager
    def partition() -> Iterator[None]:
        from torch.cuda.green_contexts import GreenContext

        context: Any = GreenContext.create(num_sms=num_processors, device_id=device.index)
        context.set_context()
        try:
            yield
        finally:
            context.pop_context()

    return partition


def measured(way: str, scale: Scale, device: torch.device, *, is_small: bool) -> dict[str, object]:
    if way == "colocated":
        return colocated(scale, device)
    if way == "time_sliced":
        return in_processes(scale, device, is_small=is_small)
    if is_small:
        return in_threads(scale, device, nullcontext, nullcontext)
    if way == "priority":
        return in_threads(scale, device, on_stream(-1, device), on_stream(0, device))
    num_all = torch.cuda.get_device_properties(device).multi_processor_count
    num_own = num_all // DECODE_SHARE // 8 * 8  # partitions are whole groups of eight on an H100
    return in_threads(scale, device, on_partition(num_own, device), on_partition(num_all - num_own, device))


def apart(way: str, limit_s: float) -> dict[str, object]:
    """One way in a process of its own; what went wrong there stays there."""
    command = [sys.executable, "-m", "tests.gpu.interference", "--way", way]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"no answer within {limit_s:.0f} s"}
    found: dict[str, object] = json.loads(done.stdout) if done.returncode == 0 else {"failed": done.stderr[-300:]}
    return found


def main() -> int:
    """0 when every way was measured, 1 when not, 2 without a GPU."""
    parser = part_parser(__doc__)
    parser.add_argument("--way", choices=WAYS, help="this one alone, in this process")
    parser.add_argument("--child", action="store_true")
    parser.add_argument("--limit-s", type=float, default=45.0, help="of each way")
    given = parser.parse_args()
    is_small: bool = given.miniature
    scale, device = SMALL if is_small else FULL, part_device(is_small=is_small)
    if device is None:
        return NO_GPU
    with torch.inference_mode():
        if given.child:
            read_prompts_as_child(scale, device)
            return 0
        if given.way or is_small:
            ways = (given.way,) if given.way else WAYS
            found: dict[str, Any] = {way: measured(way, scale, device, is_small=is_small) for way in ways}
            finish(device)
            sys.stdout.write(json.dumps(found[given.way] if given.way else found, indent=1) + "\n")
            return 0
    found = {way: apart(way, given.limit_s) for way in WAYS}
    tell(conditions(device) | {"ways": found}, given.out)
    return 1 if any("failed" in each for each in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
