"""When requests arrive: coarse timestamps spread out again, load scaled, seeds paired.

A trace whose clock ticks every 3 s replayed as it is would be a burst every 3 s. The tick is found, and each arrival is
drawn uniformly within its own tick: the counts per tick are the trace's, the rest is chance under a seed. Exact
timestamps stay under seed 0; under others each is moved towards the next, so that seeds differ and bursts stay.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from common.core.entropy import SeededEntropy
from services.simulator.trace import Trace, TraceRequest

MIN_SHARE = 0.9
"""Chosen: gaps that must be whole multiples of a tick before it counts as one; stray stamps do not hide it."""

MIN_TICK_S = 0.02
"""Chosen: finer clocks than this are clocks."""


def find_tick_s(requests: Sequence[TraceRequest]) -> float:
    """The step in which timestamps were rounded; 0 where there is none."""
    gaps = [after.arrived_s - before.arrived_s for before, after in pairwise(requests)]
    steps = sorted(gap for gap in gaps if gap > 1e-6)
    if len(steps) < 16 or len(steps) > len(gaps) * 0.8:
        return 0.0
    tick_s = steps[len(steps) // 4]
    whole = sum(abs(gap / tick_s - round(gap / tick_s)) < 0.01 for gap in steps)
    return tick_s if tick_s >= MIN_TICK_S and whole >= MIN_SHARE * len(steps) else 0.0


def spread(trace: Trace, *, seed: int = 0, speed: float = 1.0, max_requests: int | None = None) -> Trace:
    """The trace with its tick undone, `speed` times as fast, perhaps cut after some requests. Same seed, same times."""
    requests = trace.requests[:max_requests]
    tick_s = find_tick_s(trace.requests)
    entropy = SeededEntropy(seed)
    widths = [tick_s] * len(requests) if tick_s else _gaps(requests, is_moved=seed != 0)
    moved = [
        replace(request, arrived_s=(request.arrived_s + width * _share(entropy)) / speed)
        for request, width in zip(requests, widths, strict=True)
    ]
    return replace(trace, requests=tuple(sorted(moved, key=lambda request: request.arrived_s)))


def _gaps(requests: Sequence[TraceRequest], *, is_moved: bool) -> list[float]:
    """How far each exact arrival may move."""
    if not is_moved:
        return [0.0] * len(requests)
    return [*(after.arrived_s - before.arrived_s for before, after in pairwise(requests)), 0.0][: len(requests)]


def _share(entropy: SeededEntropy) -> float:
    """Uniform in [0, 1)."""
    return entropy.bits(53) / 2.0**53
