"""Which implementation computes a tensor: decided by where it lies, never by a flag."""

from enum import StrEnum

from torch import Tensor


class Backend(StrEnum):
    """CPU: kernels/cpu. PLAIN: the oracle itself, slow and right everywhere."""

    CPU = "cpu"
    PLAIN = "plain"


def backend(tensor: Tensor) -> Backend:
    """Where operators on `tensor` run."""
    return Backend.CPU if tensor.device.type == "cpu" else Backend.PLAIN
