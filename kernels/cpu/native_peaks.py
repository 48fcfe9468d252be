"""The largest value of each row of logits, natively: native/peaks.cpp.

Legend: R rows, V values of a row.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from kernels.cpu.library import Native


def row_peaks(native: Native, rows_RV: Tensor) -> tuple[Tensor, Tensor]:
    """largest_R, the index of each row's largest value, the lowest on a tie, int64; is_finite_R, of all its values.

    `rows_RV` is fp32 and contiguous, with a value per row at least. Where a row is not finite its index means nothing.
    """
    num_rows, width = rows_RV.shape
    assert rows_RV.dtype is torch.float32
    assert rows_RV.is_contiguous()
    assert width > 0
    largest_R = torch.empty(num_rows, dtype=torch.int64)
    is_finite_R = torch.empty(num_rows, dtype=torch.bool)
    _function(native)(rows_RV.data_ptr(), num_rows, width, largest_R.data_ptr(), is_finite_R.data_ptr())
    return largest_R, is_finite_R


@cache
def _function(native: Native) -> Callable[..., int]:
    return native.bind("baton_row_peaks", "piipp")
