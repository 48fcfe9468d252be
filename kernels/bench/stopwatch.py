"""Medians of device time, by events on the stream."""

from dataclasses import dataclass
from statistics import median, quantiles

import torch

from kernels.bench.case import Run

FLUSH_BYTES = 256 * 2**20
"""Written before each run: larger than any cache, and long enough that the host's launch hides behind it."""

WARM_UPS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds of one run: the median and the middle half."""

    seconds: float
    low: float
    high: float


def measure(run: Run, device: torch.device, repeats: int) -> Timing:
    """Run `run` with cold caches. What it launches first compiles and is not counted."""
    flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device=device)
    for turn in range(WARM_UPS):
        run(turn)
    torch.cuda.synchronize(device)
    pairs = []
    for turn in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]  # torch's
        flush.fill_(turn % 100)
        begin.record()
        run(turn)
        end.record()
        pairs.append((begin, end))
    torch.cuda.synchronize(device)
    times = [begin.elapsed_time(end) / 1e3 for begin, end in pairs]
    low, _, high = quantiles(times, n=4)
    return Timing(seconds=median(times), low=low, high=high)
