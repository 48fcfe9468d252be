"""gate(g) * u of a fused projection, g its first half and u its second. Computed in fp32, rounded once.

Bound by bytes: 2 J elements of a row read, J written. Grid (T, J / TILE). Legend: T tokens, J inner channels, I = 2 J.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.gate import Gate
from kernels.gpu.specimen import Specimen

TILE = 1024
GATES = {Gate.SILU: 0, Gate.GELU: 1, Gate.GELU_TANH: 2}
SILU, GELU = tl.constexpr(GATES[Gate.SILU]), tl.constexpr(GATES[Gate.GELU])


@triton.jit
def _logistic(x):
    """1 / (1 + e^-x), without leaving the range of fp32 on the way."""
    return 1.0 / (1.0 + tl.exp(tl.minimum(-x, 80.0)))


@triton.jit
def gate_kernel(gate_up, out, num_inner, row_stride, GATE: tl.constexpr, TILE: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    channels = tl.program_id(1) * TILE + tl.arange(0, TILE)
    is_in = channels < num_inner
    gate_up += row * row_stride
    g = tl.load(gate_up + channels, mask=is_in, other=0.0).to(tl.float32)
    u = tl.load(gate_up + num_inner + channels, mask=is_in, other=0.0).to(tl.float32)
    if GATE == SILU:
        opened = g * _logistic(g)
    elif GATE == GELU:
        opened = 0.5 * g * (1.0 + tl.erf(g * 0.7071067811865476))
    else:
        inner = 0.7978845608028654 * (g + 0.044715 * g * g * g)
        opened = g * _logistic(2.0 * inner)  # (1 + tanh(y)) / 2 is the logistic function of 2 y
    tl.store(out + row * num_inner + channels, (opened * u).to(out.dtype.element_ty), mask=is_in)


def gate_and_multiply(gate_up_TI: Tensor, gate: Gate) -> Tensor:
    """(T, J), contiguous. Rows may be strided."""
    num_tokens, width = gate_up_TI.shape
    assert width % 2 == 0, f"{width} channels have no halves"
    assert gate_up_TI.stride(1) == 1, f"channels are {gate_up_TI.stride(1)} apart"
    num_inner = width // 2
    out_TJ = torch.empty((num_tokens, num_inner), dtype=gate_up_TI.dtype, device=gate_up_TI.device)
    if num_tokens:
        gate_kernel[(num_tokens, triton.cdiv(num_inner, TILE))](
            gate_up_TI, out_TJ, num_inner, gate_up_TI.stride(0), GATE=GATES[gate], TILE=TILE
        )
    return out_TJ


SPECIMENS = tuple(
    Specimen(
        kernel=gate_kernel,
        label=f"{gate} {dtype}",
        types={"gate_up": f"*{dtype}", "out": f"*{dtype}", "num_inner": "i32", "row_stride": "i32"},
        constants={"GATE": number, "TILE": TILE},
        divisible=frozenset(("num_inner", "row_stride")),
    )
    for gate, number in GATES.items()
    for dtype in ("bf16", "fp32")
)
