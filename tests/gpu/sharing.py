"""Ways to run decode and prefill on one GPU at once: two processes, or two threads with streams of their own."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from common.engine.device_graph import recorder
from tests.gpu.partitions import loaded_driver, must_be_apart, processors_seen, split
from tests.gpu.roles import Arrivals, Load, Prompts, Scale, Streams

ROOT = Path(__file__).resolve().parents[2]
READY_S = 60.0
DECODE_EIGHTHS = 3
"""Of the multiprocessors. Prompts arrive at half of what the whole GPU reads, so prefill needs more than half of it:
five eighths are busy for four fifths of the time. Decode, bound by bytes, has the rest."""

MakeStream = Callable[[], Any]
"""A stream for the thread that calls."""


def in_threads(
    scale: Scale, device: torch.device, load: Load, decode: MakeStream | None, prefill: MakeStream | None
) -> tuple[list[float], Arrivals]:
    """Each on its stream; None: on a CPU."""
    found: list[Arrivals] = []
    ready, begin = threading.Event(), threading.Event()
    ends: list[float] = []

    def read_prompts() -> None:
        with _on(prefill), torch.inference_mode():
            prompts = Prompts(scale, device)
            ready.set()
            if begin.wait(timeout=READY_S):
                found.append(prompts.arrive_until(ends[0], load.apart_s))

    reader = threading.Thread(target=read_prompts)
    with _on(decode):
        record = None if decode is None else recorder(device, torch.cuda.current_stream(device))
        streams = Streams(scale, device, record=record)
        reader.start()
        if not ready.wait(timeout=READY_S):
            raise RuntimeError("prefill was not ready in time")
        streams.steps_until(time.perf_counter() + scale.quiet_s)
        ends.append(time.perf_counter() + scale.loud_s)
        begin.set()
        steps_s = streams.steps_until(ends[0])
    reader.join(timeout=READY_S)
    if not found:
        raise RuntimeError("prefill did not end")
    return steps_s, found[0]


def in_processes(scale: Scale, device: torch.device, load: Load, *, is_small: bool) -> tuple[list[float], Arrivals]:
    """Prefill in a child, which says when it is ready and is told when to begin."""
    command = [sys.executable, "-m", "tests.gpu.interference", "--child", "--apart-s", repr(load.apart_s)]
    command += ["--miniature"] if is_small else []
    child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    timer = threading.Timer(2 * READY_S, child.kill)
    timer.start()
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        streams = Streams(scale, device, record=None if is_small else recorder(device))
        if child.stdout.readline() != "ready\n":
            raise RuntimeError("the process that reads prompts did not get ready")
        streams.steps_until(time.perf_counter() + scale.quiet_s)
        child.stdin.write("begin\n")
        child.stdin.flush()
        steps_s = streams.steps_until(time.perf_counter() + scale.loud_s)
        told: dict[str, Any] = json.loads(child.stdout.readline())
    finally:
        timer.cancel()
        child.kill()
        child.communicate(timeout=10)
        timer.join(timeout=10)
    return steps_s, Arrivals(**told)


def child_reads(scale: Scale, device: torch.device, load: Load) -> None:
    """The child's side of `in_processes`."""
    prompts = Prompts(scale, device)
    print("ready", flush=True)
    sys.stdin.readline()
    arrivals = prompts.arrive_until(time.perf_counter() + scale.loud_s, load.apart_s)
    print(json.dumps({"num_due": arrivals.num_due, "waits_s": list(arrivals.waits_s)}), flush=True)


def on_stream(priority: int, device: torch.device) -> MakeStream:
    return lambda: torch.cuda.Stream(device, priority=priority)  # type: ignore[no-untyped-call]  # torch's


def green(device: torch.device) -> tuple[MakeStream, MakeStream, dict[str, object]]:
    """Streams of decode's part and of prefill's, and how many multiprocessors each has. Looked at before they are used:
    raises RuntimeError where the two parts share one, by kernels as they come or by recorded ones."""
    num_all = torch.cuda.get_device_properties(device).multi_processor_count
    torch.cuda.synchronize(device)  # the driver needs the primary context, which torch makes
    parts = split(loaded_driver(), device.index or 0, num_all * DECODE_EIGHTHS // 8)
    streams = [torch.cuda.ExternalStream(part.stream, device=device) for part in parts]
    seen, recorded = [], []
    for stream in streams:
        with torch.cuda.stream(stream):
            seen.append(processors_seen(device, num_all))
            recorded.append(processors_seen(device, num_all, recorder(device, stream)))
    must_be_apart((seen[0], seen[1]), parts)
    must_be_apart((recorded[0], recorded[1]), parts)
    facts = {
        "multiprocessors": num_all,
        "decode": parts[0].num_processors,
        "prefill": parts[1].num_processors,
        "decode_seen": len(seen[0] | recorded[0]),
        "prefill_seen": len(seen[1] | recorded[1]),
        "in_common": len((seen[0] | recorded[0]) & (seen[1] | recorded[1])),
    }
    return lambda: streams[0], lambda: streams[1], facts


def _on(make: MakeStream | None) -> Any:
    return nullcontext() if make is None else torch.cuda.stream(make())
