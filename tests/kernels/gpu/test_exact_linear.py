"""Products whose rows do not know of each other: right, and the same bits alone, in a crowd and cut in two."""

import pytest
import torch
from torch.nn import functional

from kernels.gpu.exact_linear import TILE_M, exact_linear

ROWS = (1, 7, TILE_M, TILE_M + 1)
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("num_rows", ROWS)
@pytest.mark.parametrize("has_bias", [False, True])
def test_a_row_has_the_same_bits_whatever_stands_beside_it(
    device: torch.device, dtype: torch.dtype, num_rows: int, has_bias: bool
) -> None:
    generator = torch.Generator().manual_seed(num_rows)
    x = torch.randn((num_rows, 80), generator=generator).to(device, dtype)
    weight = (torch.randn((70, 80), generator=generator) / 9).to(device, dtype)
    bias = torch.randn(70, generator=generator).to(device, dtype) if has_bias else None
    found = exact_linear(x, weight, bias)
    expected = functional.linear(x.float(), weight.float(), None if bias is None else bias.float())
    torch.testing.assert_close(found.float(), expected, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])
    middle = num_rows // 2
    assert torch.equal(exact_linear(x[middle : middle + 1], weight, bias), found[middle : middle + 1])
    assert torch.equal(exact_linear(x[middle:], weight, bias), found[middle:])


def test_no_rows_are_no_work(device: torch.device) -> None:
    assert exact_linear(torch.empty((0, 16), device=device), torch.ones((8, 16), device=device), None).shape == (0, 8)
