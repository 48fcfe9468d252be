"""A day: the requests of a trace, in their order, at arrivals whose rate swings between a trough and a peak."""

import math
from dataclasses import replace
from pathlib import Path

from common.core.entropy import SeededEntropy
from services.simulator.trace import Trace, unreadable

SWING = 10.0
"""Chosen: the highest rate over the lowest. A fleet for the peak is used to 55 %: there is something to save."""


def diurnal(trace: Trace, *, seed: int, span_s: float, max_prompt_tokens: int | None = None) -> Trace:
    """Poisson arrivals with a sinusoidal rate, SWING times as high at noon as at midnight, over `span_s`. Prompts
    longer than `max_prompt_tokens` are left out. Raises InvalidRequest where none is left."""
    asked = [each for each in trace.requests if max_prompt_tokens is None or each.prompt_tokens <= max_prompt_tokens]
    if not asked:
        raise unreadable(Path(trace.name), 0, f"no prompt of it has at most {max_prompt_tokens} tokens")
    entropy = SeededEntropy(seed)
    times = sorted(span_s * _moment(_uniform(entropy)) for _ in asked)
    return replace(
        trace,
        name=f"{trace.name}, a day of {span_s / 3600:g} h, swing {SWING:g}",
        requests=tuple(replace(each, arrived_s=at) for each, at in zip(asked, times, strict=True)),
    )


def _moment(share: float) -> float:
    """The share of the day by which this share of its requests has come: the inverse of the rate's integral."""
    depth = (SWING - 1.0) / (SWING + 1.0)
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        come = middle - depth * math.sin(2 * math.pi * middle) / (2 * math.pi)
        low, high = (middle, high) if come < share else (low, middle)
    return low


def _uniform(entropy: SeededEntropy) -> float:
    return entropy.bits(53) / 2.0**53
