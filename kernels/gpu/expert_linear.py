"""Rows times the weights of their own experts: y[p] = W[expert[p]] x[p // group], summed in fp32, rounded once.

Bound by bytes of the chosen weights: one program reads TILE_O x C of one expert for one pair; pairs of one expert that
run at about the same time meet in the second-level cache. Meant for the few rows of decode steps: shapes are those of
the tensors, nothing is sorted, counted or read back, so a graph can replay it. A pair's sum has one order, whatever
stands beside it. Grid (P, O / TILE_O).

Legend: P pairs of a token and an expert, C channels in, O channels out, E experts.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.gpu.specimen import Specimen

TILE_O, TILE_C = 32, 128
"""Chosen: 8 KiB of bf16 weights a load, four warps."""


@triton.jit
def expert_kernel(
    x, weights, experts, out, num_out, num_in, GROUP: tl.constexpr, TILE_O: tl.constexpr, TILE_C: tl.constexpr
):
    pair = tl.program_id(0).to(tl.int64)
    expert = tl.load(experts + pair).to(tl.int64)
    rows_O = tl.program_id(1) * TILE_O + tl.arange(0, TILE_O)
    channels_C = tl.arange(0, TILE_C)
    is_row_O = rows_O < num_out
    x += (pair // GROUP) * num_in
    rows_O1 = weights + (expert * num_out + rows_O.to(tl.int64))[:, None] * num_in
    sums_OC = tl.zeros((TILE_O, TILE_C), dtype=tl.float32)
    for first in range(0, num_in, TILE_C):
        is_in_C = first + channels_C < num_in
        x_C = tl.load(x + first + channels_C, mask=is_in_C, other=0.0).to(tl.float32)
        is_in_OC = is_row_O[:, None] & is_in_C[None, :]
        w_OC = tl.load(rows_O1 + (first + channels_C)[None, :], mask=is_in_OC, other=0.0).to(tl.float32)
        sums_OC += w_OC * x_C[None, :]
    y_O = tl.sum(sums_OC, axis=1)
    tl.store(out + pair * num_out + rows_O, y_O.to(out.dtype.element_ty), mask=is_row_O)


def expert_linear(x_RC: Tensor, weights_EOC: Tensor, experts_P: Tensor) -> Tensor:
    """(P, O) in x's type. Contiguous; P is a multiple of R: each row has as many experts, one after the other.

    Experts are below E: nobody looks.
    """
    num_pairs, (_, num_out, num_in) = len(experts_P), weights_EOC.shape
    assert x_RC.is_contiguous()
    assert weights_EOC.is_contiguous()
    assert x_RC.shape[1] == num_in, f"{x_RC.shape[1]} channels for weights of {num_in}"
    assert num_pairs % max(1, len(x_RC)) == 0, f"{num_pairs} pairs of {len(x_RC)} rows"
    out_PO = torch.empty((num_pairs, num_out), dtype=x_RC.dtype, device=x_RC.device)
    if num_pairs:
        expert_kernel[(num_pairs, triton.cdiv(num_out, TILE_O))](
            x_RC,
            weights_EOC,
            experts_P,
            out_PO,
            num_out,
            num_in,
            GROUP=num_pairs // len(x_RC),
            TILE_O=TILE_O,
            TILE_C=TILE_C,
        )
    return out_PO


SPECIMENS = tuple(
    Specimen(
        kernel=expert_kernel,
        label=f"{dtype} {group} experts",
        types={
            "x": f"*{dtype}",
            "weights": f"*{dtype}",
            "experts": "*i64",
            "out": f"*{dtype}",
            "num_out": "i32",
            "num_in": "i32",
        },
        constants={"GROUP": group, "TILE_O": TILE_O, "TILE_C": TILE_C},
        divisible=frozenset(("num_out", "num_in")),
    )
    for dtype, group in (("bf16", 8), ("bf16", 1), ("fp32", 8))
)
