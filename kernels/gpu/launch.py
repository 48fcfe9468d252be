"""What a launch asks of its device, read once per device."""

from collections.abc import Iterator
from contextlib import contextmanager
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


_on_cpu = INTERPRETER


def device_of(index: torch.device) -> Device:
    """Facts of the device that a tensor lies on. A CPU means that kernels are interpreted, or only compiled."""
    return _on_cpu if index.type == "cpu" else _facts(index)


@contextmanager
def pretended(device: Device) -> Iterator[None]:
    """Inside, operators on CPU tensors choose their sizes for `device`."""
    global _on_cpu  # noqa: PLW0603  # one per process, as Triton's driver is
    _on_cpu = device
    try:
        yield
    finally:
        _on_cpu = INTERPRETER


@cache
def _facts(index: torch.device) -> Device:
    found = torch.cuda.get_device_properties(index)
    return Device(
        name=found.name,
        architecture=10 * found.major + found.minor,
        num_processors=found.multi_processor_count,
    )
