"""Which implementation computes a tensor: by where it lies and, on the CPU, by what the process was told once."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import cache
from importlib.util import find_spec

from torch import Tensor

from kernels.cpu import library
from kernels.cpu.library import Native, load


class Backend(StrEnum):
    """CPU: kernels/cpu. TRITON: kernels/gpu. PLAIN: the oracle itself, slow and right everywhere."""

    CPU = "cpu"
    TRITON = "triton"
    PLAIN = "plain"


class Kernels(StrEnum):
    """AUTO: native operators where they can be had. NATIVE: or an error. TORCH: torch's operators alone."""

    AUTO = "auto"
    NATIVE = "native"
    TORCH = "torch"


class NoNativeOperators(RuntimeError):
    """NATIVE was asked for and cannot be had; the message says why."""


_chosen = Kernels.AUTO
_is_interpreted = False
_is_exact = False


def backend(tensor: Tensor) -> Backend:
    """Where operators on `tensor` run."""
    if tensor.device.type == "cpu":
        return Backend.TRITON if _is_interpreted else Backend.CPU
    return Backend.TRITON if tensor.device.type == "cuda" and has_triton() else Backend.PLAIN


@cache
def has_triton() -> bool:
    """Whether triton is installed. It is imported with the first operator that runs on a GPU, never on a CPU."""
    return find_spec("triton") is not None


def choose(kernels: Kernels, *, is_exact: bool = False) -> str:
    """Decide for this process, before a model is loaded. What was found, in words. Raises NoNativeOperators.

    `is_exact`: on a GPU, too, a token's result may not depend on the tokens beside it or on how its context was cut.
    """
    global _chosen, _is_exact  # noqa: PLW0603  # the loaded library is one per process, and so is the choice
    _is_exact = is_exact
    loaded = None if kernels is Kernels.TORCH else load()
    if kernels is Kernels.NATIVE and loaded is not None and loaded.native is None:
        raise NoNativeOperators(loaded.reason)
    _chosen = kernels
    return "torch operators, as configured" if loaded is None else loaded.reason


def outlook(kernels: Kernels) -> str | None:
    """What `choose` will wait for, in words; None: for nothing that takes long."""
    return None if kernels is Kernels.TORCH else library.outlook()


def is_exact() -> bool:
    """Whether a GPU's operators must be those whose rows do not know of each other. A CPU's are in any case."""
    return _is_exact


def native() -> Native | None:
    """The native operators when this process uses them."""
    return None if _chosen is Kernels.TORCH else load().native


@contextmanager
def interpreted() -> Iterator[None]:
    """Inside, operators on CPU tensors are the GPU's, in Triton's interpreter: for tests of what is made of them.

    A model that runs so is loaded so, too: weights are laid out for the operators that multiply by them.
    """
    global _is_interpreted  # noqa: PLW0603  # one per process, as the interpreter is
    _is_interpreted = True
    try:
        yield
    finally:
        _is_interpreted = False
