"""Bursts of a trace, and how often a series of wanted workers turns round within one.

A burst: arrivals above twice their ten-minute mean, until they are below it again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

BIN_S = 10.0
"""Chosen: arrivals are counted in tens of seconds, or nearly every request of a CV of 13 would be a burst."""

MEAN_S = 600.0
FACTOR = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """From the bin that exceeds the mean to the one that does not."""

    begin: float
    end: float


def find_bursts(arrivals: Sequence[float]) -> tuple[Burst, ...]:
    """`arrivals` rise. The mean is that of the last ten minutes, or of as much as there was."""
    if not arrivals:
        return ()
    counts = [0] * (int(arrivals[-1] / BIN_S) + 2)
    for at in arrivals:
        counts[int(at / BIN_S)] += 1
    wide = int(MEAN_S / BIN_S)
    found: list[Burst] = []
    begin: float | None = None
    for index, count in enumerate(counts):
        past = counts[max(0, index - wide) : index] or [count]
        is_above = count > FACTOR * sum(past) / len(past)
        if is_above and begin is None:
            begin = index * BIN_S
        elif not is_above and begin is not None:
            found.append(Burst(begin=begin, end=index * BIN_S))
            begin = None
    return tuple(found)


def turns_per_burst(bursts: Sequence[Burst], series: Sequence[tuple[float, int]]) -> tuple[int, ...]:
    """Changes of direction of `series`, (time, wanted), from each burst's beginning to the next one's."""
    ends = [*(burst.begin for burst in bursts[1:]), float("inf")][: len(bursts)]
    return tuple(
        _turns([wanted for at, wanted in series if burst.begin <= at < end])
        for burst, end in zip(bursts, ends, strict=True)
    )


def _turns(values: Sequence[int]) -> int:
    """Up after down, or down after up; the first move counts as one."""
    turns, direction = 0, 0
    for before, after in pairwise(values):
        moved = (after > before) - (after < before)
        if moved and moved != direction:
            turns, direction = turns + 1, moved
    return turns
