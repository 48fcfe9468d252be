"""Operators that work row by row: right against the oracle, and the same bits however many rows are computed."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from kernels import reference
from kernels.activation import gate_and_multiply
from kernels.gate import Gate
from kernels.norm import rms_norm
from kernels.rotary import rotary_
from tests.kernels.gpu.closeness import assert_close

ROWS = [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 63, 64, 65, 127, 130]


def turned(x_THD: Tensor) -> Tensor:
    angles_TE = torch.arange(x_THD.shape[0])[:, None] * torch.linspace(0.01, 1, x_THD.shape[2] // 2)
    result = x_THD.clone()
    rotary_(result, angles_TE.cos(), angles_TE.sin())
    return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [64, 80, 768])
@pytest.mark.parametrize("rows", [1, 63])
def test_row_operators_equal_their_oracles(rows: int, channels: int, dtype: torch.dtype) -> None:
    torch.manual_seed(rows * channels)
    x_TC, weight_C = torch.randn(rows, channels, dtype=dtype) * 3, torch.randn(channels, dtype=dtype)
    assert_close(rms_norm(x_TC, weight_C, 1e-5), reference.rms_norm(x_TC, weight_C, 1e-5))
    for gate in Gate:
        assert_close(gate_and_multiply(x_TC, gate), reference.gate_and_multiply(x_TC, gate))


def test_rotary_turns_a_strided_slice_in_place_and_nothing_beside_it() -> None:
    torch.manual_seed(0)
    qkv_THD = torch.randn(5, 9, 16)
    before = qkv_THD.clone()
    angles_TE = torch.rand(5, 8) * 6
    rotary_(qkv_THD[:, :6], angles_TE.cos(), angles_TE.sin())
    assert_close(qkv_THD[:, :6], reference.rotary(before[:, :6], angles_TE.cos(), angles_TE.sin()))
    assert torch.equal(qkv_THD[:, 6:], before[:, 6:])


@pytest.mark.parametrize(
    "operator",
    [
        lambda x: rms_norm(x, torch.ones(x.shape[-1]), 1e-5),
        lambda x: turned(x.view(-1, 4, 20)),
        *(partial(gate_and_multiply, gate=gate) for gate in Gate),
    ],
    ids=["rms_norm", "rotary", *Gate],
)
def test_a_row_has_the_same_bits_however_many_rows_there_are(operator: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(1)
    x_TC = torch.randn(max(ROWS), 80)
    expected = operator(x_TC)
    assert [rows for rows in ROWS if not torch.equal(operator(x_TC[:rows]), expected[:rows])] == []
