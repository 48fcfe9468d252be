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
_is_exact_wanted = False


def backend(tensor: Tensor) -> Backend:
    """Where operators on `tensor` run."""
    return Backend.CPU if tensor.device.type == "cpu" else Backend.PLAIN


def choose(kernels: Kernels, *, is_exact: bool = False) -> str:
    """Decide for this process, before a model is loaded. What was found, in words. Raises NoNativeOperators.

    `is_exact` asks for rows that do not depend on their batch even where that costs time: bf16 and fp16 with torch.
    """
    global _chosen, _is_exact_wanted  # the loaded library is one per process, and so is the choice
    loaded = None if kernels is Kernels.TORCH else load()
    if kernels is Kernels.NATIVE and loaded is not None and loaded.native is None:
        raise NoNativeOperators(loaded.reason)
    _chosen, _is_exact_wanted = kernels, is_exact
    return "torch operators, as configured" if loaded is None else loaded.reason


def is_exact_wanted() -> bool:
    """Whether operators may cost time to be exact."""
    return _is_exact_wanted


def native() -> Native | None:
    """The native operators when this process uses them."""
    return None if _chosen is Kernels.TORCH else load().native
