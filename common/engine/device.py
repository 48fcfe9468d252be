"""The device a worker computes on: which one, what of its memory is free, host memory that it reads by itself.

What asks a GPU here was NOT RUN ON ONE YET.
"""

import re

import torch

from common.core.errors import StartupError

NAMES = re.compile(r"auto|cpu|cuda(:\d{1,3})?")


def find_device(asked: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:n`; a GPU has its number. Raises StartupError for another name, or
    where it is not there."""
    if not NAMES.fullmatch(asked):
        raise StartupError(message=f"engine.device is {asked!r:.40}; known are auto, cpu, cuda and cuda:0, cuda:1, ...")
    if asked == "cpu" or (asked == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise StartupError(message=f"engine.device is {asked}: this process sees no GPU, or torch was built without")
    number = torch.device("cuda" if asked == "auto" else asked).index or 0
    if number >= torch.cuda.device_count():
        raise StartupError(message=f"engine.device is {asked}: this process sees {torch.cuda.device_count()} GPUs")
    return torch.device("cuda", number)


def use_device(device: torch.device) -> None:
    """Kernels launched by the calling thread go to `device`: a thread's own is the first until it says otherwise."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def finish_on(device: torch.device) -> None:
    """Wait for what was launched. Raises RuntimeError where a kernel failed: such a GPU computes nothing more for this
    process."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def free_device_bytes(device: torch.device) -> int:
    """What nobody on this GPU has taken, once all that was launched is done. Memory that torch keeps for the next
    step counts as taken: the next step takes it again."""
    finish_on(device)
    free, _ = torch.cuda.mem_get_info(device)
    return int(free)


def release_device_memory() -> None:
    """Give back what torch keeps of memory that no tensor holds any more."""
    torch.cuda.empty_cache()


def pinned_memory(num_bytes: int) -> memoryview:
    """Host memory that a GPU copies from and to without the processor."""
    pinned: memoryview = torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True).numpy().data
    return pinned
