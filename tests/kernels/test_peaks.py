"""Peaks of rows, by every instruction set of this machine, against torch's own."""

import pytest
import torch

from kernels.cpu.library import Native
from kernels.cpu.native_peaks import row_peaks
from kernels.cpu.threads import num_native_threads, set_native_threads
from kernels.dispatch import native as chosen_native
from kernels.peaks import find_peaks

WIDTHS = (1, 2, 15, 16, 17, 1023, 1024, 1025, 1040, 3001)
"""Around a register and a block."""


@pytest.mark.parametrize("width", WIDTHS)
def test_the_largest_is_found_wherever_it_lies(native: Native, width: int) -> None:
    rows_RV = torch.randn(9, width, generator=torch.Generator().manual_seed(width)) - 5  # also rows below zero
    rows_RV[0, 0] = rows_RV[1, -1] = 7
    largest_R, is_finite_R = row_peaks(native, rows_RV)
    assert largest_R.tolist() == rows_RV.argmax(dim=1).tolist()
    assert is_finite_R.all()


def test_of_equal_values_the_lowest_index_counts(native: Native) -> None:
    """Neighbours, in one register, in one block, in several; and zeros of either sign are equal."""
    rows_RV = torch.full((5, 4096), -1.0)
    for row, places in enumerate(((8, 9), (35, 40), (100, 900), (1500, 4000))):
        rows_RV[row, list(places)] = 3.0
    rows_RV[4, 10], rows_RV[4, 2000] = -0.0, 0.0
    assert row_peaks(native, rows_RV)[0].tolist() == [8, 35, 100, 1500, 10]


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("width", WIDTHS)
def test_one_value_that_is_not_finite_is_seen_wherever_it_lies(native: Native, width: int, poison: float) -> None:
    places = sorted({0, width // 2, width - 1})
    rows_RV = torch.ones(len(places) + 1, width)
    for row, place in enumerate(places):
        rows_RV[row, place] = poison
    largest_R, is_finite_R = row_peaks(native, rows_RV)
    assert is_finite_R.tolist() == [False] * len(places) + [True]
    assert all(0 <= place < width for place in largest_R.tolist())


def test_large_values_are_finite_though_their_sum_is_not(native: Native) -> None:
    assert row_peaks(native, torch.full((1, 64), 3e38))[1].tolist() == [True]


def test_no_rows_have_no_peaks(native: Native) -> None:
    largest_R, is_finite_R = row_peaks(native, torch.empty(0, 100))
    assert (len(largest_R), len(is_finite_R)) == (0, 0)


def test_threads_share_rows_and_find_the_same(native: Native) -> None:
    rows_RV = torch.randn(37, 2000, generator=torch.Generator().manual_seed(1))
    before = num_native_threads(native)
    set_native_threads(native, 2)
    try:
        assert row_peaks(native, rows_RV)[0].tolist() == rows_RV.argmax(dim=1).tolist()
    finally:
        set_native_threads(native, before)


def test_rows_with_gaps_are_left_to_torch() -> None:
    rows_RV = torch.randn(3, 50)[:, ::2]
    rows_RV[1, 3] = float("nan")
    largest_R, is_finite_R = find_peaks(rows_RV)
    assert largest_R is None
    assert is_finite_R.tolist() == [True, False, True]


@pytest.mark.skipif(chosen_native() is None, reason="no native operators here")
def test_where_there_are_native_operators_they_find_them() -> None:
    largest_R, is_finite_R = find_peaks(torch.tensor([[1.0, 3.0, 2.0], [0.0, float("nan"), 1.0]]))
    assert largest_R is not None
    assert largest_R[0] == 1
    assert is_finite_R.tolist() == [True, False]
