"""An operator in one shape: what it must move and compute, whether it is right, how it is run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor


class Run(Protocol):
    """Launches the operator once, on the current stream. `turn` counts runs: inputs that fit a cache take turns."""

    def __call__(self, turn: int, /) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """`num_bytes`: each input read once, each output written once. `flops` of matrix products alone.

    `error` is the distance to the oracle over the oracle's length, made anew from random inputs; a case whose error is
    above `tolerance`, or NaN, is not timed. `rivals` compute the same by other means and are timed beside it.
    """

    name: str
    num_bytes: int
    flops: int
    tolerance: float
    error: Callable[[], float]
    run: Run
    rivals: Mapping[str, Run] = field(default_factory=dict)


class Maker(Protocol):
    """Makes a case on a device when its turn comes. `is_small`: in miniature, for the interpreter."""

    def __call__(self, device: torch.device, *, is_small: bool) -> Case: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A case that was not made yet."""

    name: str
    make: Maker


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """|actual - expected| / |expected| in fp64; NaN when either has one."""
    wide = expected.double()
    return float((actual.double() - wide).norm() / wide.norm())
