"""How many threads operators compute with. Writer: whoever starts the step loop, before its first step."""

import os

import torch

from kernels.cpu.threads import set_native_threads
from kernels.dispatch import native


def use_threads(count: int | None) -> int:
    """Compute with `count` threads, the caller included; None: one per core this process may run on. What was set.

    Native operators have a pool of their own. Torch then keeps to one thread: two pools that spin for work on the same
    cores would take them from each other.
    """
    wanted = count or len(os.sched_getaffinity(0))
    library = native()
    if library is None:
        torch.set_num_threads(wanted)
        return wanted
    torch.set_num_threads(1)
    set_native_threads(library, wanted)
    return wanted
