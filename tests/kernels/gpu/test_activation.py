"""The gate of the feed-forward network."""

import pytest
import torch

from kernels import reference
from kernels.gate import Gate
from kernels.gpu.activation import TILE, gate_and_multiply
from tests.kernels.gpu.closeness import TYPES, assert_close


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("gate", Gate)
@pytest.mark.parametrize(("rows", "inner"), [(0, 8), (1, 1), (2, TILE + 1)])
def test_every_gate_equals_its_oracle(
    gate: Gate, rows: int, inner: int, dtype: torch.dtype, device: torch.device
) -> None:
    torch.manual_seed(inner)
    gate_up_TI = (torch.randn(rows, 2 * inner, device=device) * 4).to(dtype)
    opened, expected = gate_and_multiply(gate_up_TI, gate), reference.gate_and_multiply(gate_up_TI, gate)
    assert_close(opened, expected)
    if dtype is torch.float32:
        torch.testing.assert_close(opened, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("gate", Gate)
def test_a_gate_opens_and_closes_at_the_ends_of_its_range(gate: Gate, device: torch.device) -> None:
    """Numbers whose exponential is beyond fp32."""
    gate_up_TI = torch.tensor([[-1000.0, -200.0, 0.0, 200.0, 1.0, 1.0, 1.0, 1.0]], device=device)
    assert gate_and_multiply(gate_up_TI, gate)[0].tolist() == pytest.approx([0.0, 0.0, 0.0, 200.0], abs=1e-30)
