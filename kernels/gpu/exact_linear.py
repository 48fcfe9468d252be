"""x W^T + b in tiles of one shape: a row's bits depend on that row and the weight, not on how many rows there are.

Sums run over the channels in steps of TILE_K, in fp32, in one order for every row; the bias is added last, and the
result rounded once. Rows beyond the last are masked: what they would hold changes no other row. A library's product
chooses its tiles, and how it cuts sums, by the number of rows: to avoid that is what this one is for, at a cost that is
not measured yet.

Bound by bytes of the weight up to some tens of rows, by FLOPs above. Grid (O / TILE_N, T / TILE_M).
Legend: T tokens, C channels in, O channels out.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.gpu.dialect import dot
from kernels.gpu.specimen import Specimen

TILE_M, TILE_N, TILE_K = 64, 64, 32
"""Chosen: one shape for one row and for thousands; three stages of fp32 take 48 KiB of shared memory."""


@triton.jit(do_not_specialize=["num_rows"])
def exact_linear_kernel(
    x,
    weight,
    bias,
    out,
    num_rows,
    num_out,
    num_in,
    HAS_BIAS: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_N: tl.constexpr,
    TILE_K: tl.constexpr,
):
    outs_N = tl.program_id(0) * TILE_N + tl.arange(0, TILE_N)
    rows_M = tl.program_id(1) * TILE_M + tl.arange(0, TILE_M)
    channels_K = tl.arange(0, TILE_K)
    is_row_M, is_out_N = rows_M < num_rows, outs_N < num_out
    x_M1 = x + rows_M.to(tl.int64)[:, None] * num_in
    weight_1N = weight + outs_N.to(tl.int64)[None, :] * num_in
    sums_MN = tl.zeros((TILE_M, TILE_N), dtype=tl.float32)
    for first in range(0, num_in, TILE_K):
        now_K = first + channels_K
        is_in_K = now_K < num_in
        x_MK = tl.load(x_M1 + now_K[None, :], mask=is_row_M[:, None] & is_in_K[None, :], other=0.0)
        w_KN = tl.load(weight_1N + now_K[:, None], mask=is_in_K[:, None] & is_out_N[None, :], other=0.0)
        sums_MN = dot(x_MK, w_KN, sums_MN)
    if HAS_BIAS:
        sums_MN += tl.load(bias + outs_N, mask=is_out_N, other=0.0).to(tl.float32)[None, :]
    out_MN = out + rows_M.to(tl.int64)[:, None] * num_out + outs_N[None, :]
    tl.store(out_MN, sums_MN.to(out.dtype.element_ty), mask=is_row_M[:, None] & is_out_N[None, :])


def exact_linear(x_TC: Tensor, weight_OC: Tensor, bias_O: Tensor | None) -> Tensor:
    """(T, O) in x's type. The weight is contiguous."""
    (num_rows, num_in), num_out = x_TC.shape, len(weight_OC)
    assert weight_OC.shape == (num_out, num_in), f"{tuple(weight_OC.shape)} weights for {num_in} channels"
    assert weight_OC.is_contiguous()
    x_TC = x_TC.contiguous()
    out_TO = torch.empty((num_rows, num_out), dtype=x_TC.dtype, device=x_TC.device)
    if num_rows:
        exact_linear_kernel[(triton.cdiv(num_out, TILE_N), triton.cdiv(num_rows, TILE_M))](
            x_TC,
            weight_OC,
            bias_O if bias_O is not None else weight_OC,
            out_TO,
            num_rows,
            num_out,
            num_in,
            HAS_BIAS=bias_O is not None,
            TILE_M=TILE_M,
            TILE_N=TILE_N,
            TILE_K=TILE_K,
            num_warps=4,
            num_stages=3,
        )
    return out_TO


SPECIMENS = tuple(
    Specimen(
        kernel=exact_linear_kernel,
        label=f"{dtype}{', bias' if has_bias else ''}",
        types={
            "x": f"*{dtype}",
            "weight": f"*{dtype}",
            "bias": f"*{dtype}",
            "out": f"*{dtype}",
            "num_rows": "i32",
            "num_out": "i32",
            "num_in": "i32",
        },
        constants={"HAS_BIAS": has_bias, "TILE_M": TILE_M, "TILE_N": TILE_N, "TILE_K": TILE_K},
        divisible=frozenset(("num_out", "num_in")),
    )
    for dtype, has_bias in (("bf16", False), ("bf16", True), ("fp32", False))
)
