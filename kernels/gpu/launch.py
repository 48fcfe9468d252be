"""What a launch asks of its device, read once per device."""

from dataclasses import dataclass
from functools import cache

import torch

CPU_PROCESSORS = 4
"""What the interpreter pretends: enough that a persistent grid meets every branch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """`architecture` is 80, 90 or 100 and so on; `num_processors` counts streaming multiprocessors."""

    name: str
    architecture: int
    num_processors: int


INTERPRETER = Device(name="interpreter", architecture=90, num_processors=CPU_PROCESSORS)


@cache
def device_of(index: torch.device) -> Device:
    """Facts of the device that a tensor lies on. A CPU means that kernels are interpreted."""
    if index.type == "cpu":
        return INTERPRETER
    found = torch.cuda.get_device_properties(index)
    return Device(
        name=found.name,
        architecture=10 * found.major + found.minor,
        num_processors=found.multi_processor_count,
    )
