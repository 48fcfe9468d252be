"""Which implementation computes a tensor: by where it lies and, on the CPU, by what the process was told once."""

from enum import StrEnum

from torch import Tensor

from kernels.cpu.library import Native, load


class Backend(StrEnum):
    """CPU: kernels/cpu. PLAIN: the oracle itself, slow and right everywhere."""

    CPU = "cpu"
    PLAIN = "plain"


class Kernels(StrEnum):
    """AUTO: native operators where they can be had. NATIVE: or an error. TORCH: torch's operators alone."""

    AUTO = "auto"
    NATIVE = "native"
    TORCH = "torch"


class NoNativeOperators(RuntimeError):
    """NATIVE was asked for and cannot be had; the message says why."""


_chosen = Kernels.AUTO


def backend(tensor: Tensor) -> Backend:
    """Where operators on `tensor` run."""
    return Backend.CPU if tensor.device.type == "cpu" else Backend.PLAIN


def choose(kernels: Kernels) -> str:
    """Decide for this process, before a model is loaded. What was found, in words. Raises NoNativeOperators."""
    global _chosen  # noqa: PLW0603  # the loaded library is one per process, and so is the choice
    loaded = None if kernels is Kernels.TORCH else load()
    if kernels is Kernels.NATIVE and loaded is not None and loaded.native is None:
        raise NoNativeOperators(loaded.reason)
    _chosen = kernels
    return "torch operators, as configured" if loaded is None else loaded.reason


def native() -> Native | None:
    """The native operators when this process uses them."""
    return None if _chosen is Kernels.TORCH else load().native
