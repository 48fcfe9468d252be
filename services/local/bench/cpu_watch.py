"""Whose processor time it was: the measured target's, ours, or a stranger's. A foreign load makes figures worthless."""

import asyncio
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

import psutil

from common.core.clock import Clock

LOOK_S = 0.7
"""Chosen: an idle moment of this length; clock ticks are 10 ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuShares:
    """Shares of the whole machine, 0 to 1: of processes that are neither client nor target; of the hypervisor's
    other guests (0 where it does not tell); of client and target."""

    foreign: float
    steal: float
    own: float


class CpuWatch:
    """A context manager; `shares` is there when it has ended. `pids`: roots of the measured processes, as of now."""

    def __init__(self, pids: Callable[[], Iterable[int]], clock: Clock) -> None:
        self._pids = pids
        self._clock = clock
        self.shares: CpuShares | None = None

    def __enter__(self) -> Self:
        self._own, self._all, self._steal, self._at = self._read()
        return self

    def __exit__(self, *_: object) -> None:
        own, everybody, steal, at = self._read()
        capacity = max(at - self._at, 1e-3) * (os.cpu_count() or 1)
        mine = (own - self._own) / capacity
        self.shares = CpuShares(
            foreign=round(max(0.0, (everybody - self._all) / capacity - mine), 3),
            steal=round((steal - self._steal) / capacity, 3),
            own=round(mine, 3),
        )

    def _read(self) -> tuple[float, float, float, float]:
        times = psutil.cpu_times()
        busy = times.user + times.nice + times.system + times.irq + times.softirq
        return _seconds_of([os.getpid(), *self._pids()]), busy, times.steal, self._clock.monotonic()


async def wait_quiet(pids: Callable[[], Iterable[int]], clock: Clock, *, max_foreign: float, timeout_s: float) -> bool:
    """Until a moment in which strangers use at most this share. False when there was none in time."""
    ends = clock.monotonic() + timeout_s
    while clock.monotonic() < ends:
        watch = CpuWatch(pids, clock)
        with watch:
            await asyncio.sleep(LOOK_S)
        if watch.shares is not None and watch.shares.foreign <= max_foreign:
            return True
    return False


def _seconds_of(roots: Iterable[int]) -> float:
    """Processor seconds of processes and all their descendants that live now."""
    seen: dict[int, float] = {}
    for root in roots:
        try:
            family = psutil.Process(root)
            for process in (family, *family.children(recursive=True)):
                times = process.cpu_times()
                seen[process.pid] = times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return sum(seen.values())
