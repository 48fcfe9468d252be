"""Cases of `kernels.bench`: right in miniature, bounds that can be counted by hand, no time for what is wrong."""

from dataclasses import replace

import pytest
import torch

from kernels.bench.attention_cases import CASES, Shape
from kernels.bench.case import Case, Planned, relative_error
from kernels.bench.ceilings import Ceilings
from kernels.bench.report import REFUSED, line
from kernels.bench.run import figure_of, figure_or_failure
from kernels.bench.stopwatch import Timing

CEILINGS = Ceilings(bytes_per_s=1e12, flops_per_s=1e14)
TIMING = Timing(seconds=1e-3, low=1e-3, high=1e-3)


@pytest.mark.parametrize("planned", CASES, ids=lambda planned: planned.name)
def test_every_case_passes_its_own_check_in_miniature(planned: Planned, device: torch.device) -> None:
    case = planned.make(device, is_small=True)
    assert case.error() <= case.tolerance


def test_bytes_and_operations_of_attention_can_be_counted_by_hand() -> None:
    shape = Shape(rows=((3, 2),), query_heads=4, key_heads=2, dim=64)
    assert shape.num_bytes() == 5 * 2 * 2 * 128 + 2 * 2 * 4 * 128
    assert shape.flops() == 4 * 64 * 4 * (4 + 5)
    assert replace(shape, window=2).flops() == 4 * 64 * 4 * (2 + 2)
    assert replace(shape, window=2).num_bytes() == 3 * 2 * 2 * 128 + 2 * 2 * 4 * 128
    assert replace(shape, kv_dtype=torch.int8).num_bytes() == 5 * 2 * 2 * 68 + 2 * 2 * 4 * 128


@pytest.mark.parametrize("error", [2e-2, float("nan")])
def test_an_operator_that_is_wrong_is_not_timed(error: float) -> None:
    def timed(_: object) -> Timing:
        raise AssertionError("timed")

    case = Case(
        name="wrong", num_bytes=1, flops=1, tolerance=1e-2, error=lambda: error, run=lambda turn: turn, rivals={}
    )
    figure = figure_of(case, CEILINGS, timed)
    assert figure.timing is None
    assert REFUSED in line(figure)


def test_a_case_that_cannot_be_made_is_told_and_the_next_one_is_measured() -> None:
    def made(device: torch.device, *, is_small: bool) -> Case:
        raise torch.OutOfMemoryError(f"no room on {device} for\n {is_small}")

    figure = figure_or_failure(Planned(name="large", make=made), torch.device("cpu"), CEILINGS, lambda _: TIMING)
    assert figure.timing is None
    assert not figure.error <= figure.tolerance
    assert line(figure).endswith("not timed         OutOfMemoryError: no room on cpu for True")
    right = figure_or_failure(CASES[0], torch.device("cpu"), CEILINGS, lambda _: TIMING)
    assert right.timing == TIMING


def test_the_share_is_of_the_larger_bound() -> None:
    case = Case(
        name="right", num_bytes=10**9, flops=10**12, tolerance=1, error=lambda: 0.0, run=lambda turn: turn, rivals={}
    )
    figure = figure_of(case, CEILINGS, lambda _: Timing(seconds=0.02, low=0.02, high=0.02))
    assert figure.bound_s == 1e-2
    assert figure.share == 0.5


def test_nan_is_an_error() -> None:
    assert not relative_error(torch.tensor([float("nan")]), torch.tensor([1.0])) <= 1.0
