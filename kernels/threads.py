"""How many threads operators compute with. Writer: whoever starts the step loop, before its first step."""

import os
from pathlib import Path

import torch

from kernels.cpu.threads import set_native_threads
from kernels.dispatch import native

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Microseconds of processor time per period, of all threads of a container; or "max". Absent outside of cgroup v2."""


def usable_cores(quota: Path = CPU_QUOTA) -> int:
    """Cores this process may keep busy. Threads beyond a quota spin it away; then all of them stand still."""
    cores = len(os.sched_getaffinity(0))
    try:
        allowed_us, period_us = map(int, quota.read_text().split())
    except (OSError, ValueError):  # no quota
        return cores
    return max(1, min(cores, allowed_us // period_us))


def use_threads(count: int | None) -> int:
    """Compute with `count` threads, the caller included; None: one per core this process may keep busy. What was set.

    Native operators have a pool of their own. Torch then keeps to one thread: two pools that spin for work on the same
    cores would take them from each other.
    """
    wanted = count or usable_cores()
    library = native()
    if library is None:
        torch.set_num_threads(wanted)
        return wanted
    torch.set_num_threads(1)
    set_native_threads(library, wanted)
    return wanted
