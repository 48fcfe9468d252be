"""One run: ceilings, then every case checked and timed."""

from collections.abc import Callable, Iterator
from math import nan

import torch
import triton

from kernels.bench.attention_cases import CASES as ATTENTION
from kernels.bench.case import Case, Planned
from kernels.bench.ceilings import Ceilings, measured_ceilings
from kernels.bench.layer_cases import CASES as LAYERS
from kernels.bench.linear_cases import CASES as LINEARS
from kernels.bench.page_cases import CASES as PAGES
from kernels.bench.report import Conditions, Figure
from kernels.bench.sampling_cases import CASES as SAMPLING
from kernels.bench.stopwatch import Timing, measure

FIRST = (
    "attention_decode 64 x 4k",
    "attention_decode 1 x 128k",
    "attention_extend 8k",
    "residual add and norm 8192",
    "head norm, rotary, store 8192",
    "gate 8192",
    "pages gathered with digest",
    "pages scattered with digest",
)
"""What a bar is set for comes before the rest: a run may be cut off."""

CASES: tuple[Planned, ...] = tuple(
    sorted((*ATTENTION, *LAYERS, *LINEARS, *PAGES, *SAMPLING), key=lambda planned: planned.name not in FIRST)
)
"""Of every group of operators."""


def conditions_of(device: torch.device, repeats: int, when: str) -> Conditions:
    """What figures were taken under."""
    versions = f"torch {torch.__version__}, triton {triton.__version__}, CUDA {torch.version.cuda}"
    return Conditions(device=torch.cuda.get_device_name(device), versions=versions, repeats=repeats, when=when)


def ceilings_of(device: torch.device, repeats: int) -> Ceilings:
    return measured_ceilings(device, repeats)


def figures(only: str, device: torch.device, ceilings: Ceilings, repeats: int) -> Iterator[Figure]:
    """Of cases with `only` in their name, as they come. One is made, checked, timed and let go before the next."""
    for planned in CASES:
        if only in planned.name:
            yield figure_or_failure(planned, device, ceilings, lambda run: measure(run, device, repeats))


def figure_or_failure(
    planned: Planned, device: torch.device, ceilings: Ceilings, timed: Callable[..., Timing]
) -> Figure:
    """A case that cannot be made, compiled or launched is told, and costs the others nothing."""
    try:
        return figure_of(planned.make(device, is_small=device.type == "cpu"), ceilings, timed)
    except Exception as failure:  # noqa: BLE001  # torch, triton, assembler and C compiler each have their own
        return Figure(
            name=planned.name,
            num_bytes=0,
            flops=0,
            error=nan,
            tolerance=0.0,
            bound_s=0.0,
            timing=None,
            rivals={},
            failure=f"{type(failure).__name__}: {failure}"[:200],
        )


def figure_of(case: Case, ceilings: Ceilings, timed: Callable[..., Timing]) -> Figure:
    """Check, then time: an operator that is wrong has no speed."""
    error = case.error()
    is_right = error <= case.tolerance
    rivals: dict[str, Timing | str] = {}
    for name, run in case.rivals.items() if is_right else ():
        try:
            rivals[name] = timed(run)
        except RuntimeError as refusal:  # A backend that this build of torch has not for this shape.
            rivals[name] = f"refused: {str(refusal).splitlines()[0][:60]}"
    return Figure(
        name=case.name,
        num_bytes=case.num_bytes,
        flops=case.flops,
        error=error,
        tolerance=case.tolerance,
        bound_s=ceilings.bound_s(case.num_bytes, case.flops),
        timing=timed(case.run) if is_right else None,
        rivals=rivals,
    )
