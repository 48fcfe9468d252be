"""Which tokens min-p, then top-k, then top-p leave to be drawn: one threshold per sample, found without sorting.

    kept = { token : ordered(logit / temperature) >= threshold }

Tokens that tie with the last one kept are kept, so what remains depends on values alone and a threshold says it all.
Each cut is the largest t with weight(tokens >= t) >= target, where a token weighs 1 for top-k (target k) and its
probability for top-p (target p of what the cuts before left). The search runs over the integers that order like floats,
four parts at a time, and ends as soon as a single token is left between its bounds: some eight passes over the row.

Probabilities are 2^-42nds of the likeliest token's, as integers: sums are exact whatever their order, so that a weight
never falls where it should rise. Exponentials are fp32's: what is kept may differ from the CPU's where a cumulative
probability lies within 1e-6 of top_p. Min-p and top-k are exact.

Bound by latency: one program per sample reads its row from the L2 cache again and again. Grid (S,).
Legend: R rows of logits, S samples, V vocabulary.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.draws import Draws
from kernels.gpu.order import LOWEST, ordered
from kernels.gpu.specimen import Specimen

TILE = 2048
NUM_WARPS = 8
STAGES = tl.constexpr(4)
"""Tiles on their way from the cache: one program alone would wait for each."""

WEIGHT = tl.constexpr(float(2**42))
"""Of the likeliest token: as many of it as there are tokens stay within 62 bits."""

MAX_VOCAB = 2**20
"""Four times what any model that is served has: Gemma 3 has 262,208."""


@triton.jit
def _scaled(row, first, vocab, temperature, TILE: tl.constexpr):
    """logit / temperature of a tile, -inf behind the vocabulary."""
    tokens = first + tl.arange(0, TILE)
    x = tl.load(row + tokens, mask=tokens < vocab, other=float("-inf"))
    return tl.div_rn(x, temperature)


@triton.jit
def _masses(scaled, largest, order, floor):
    """Probabilities in parts of WEIGHT; nothing below the floor."""
    return tl.where(order >= floor, (tl.exp(scaled - largest) * WEIGHT).to(tl.int64), 0)


@triton.jit
def _search(row, vocab, temperature, largest, floor, target, IS_MASS: tl.constexpr, TILE: tl.constexpr):
    """The largest t (int64), or one that keeps the same tokens, with weight(>= t) >= target. The floor has it."""
    low, high = floor, ordered(largest) + 1
    num_low, num_high = tl.full((), vocab, tl.int64), tl.full((), 0, tl.int64)
    while (high - low > 1) & (num_low - num_high > 1):
        step = (high - low + 3) // 4
        t1, t2, t3 = low + step, tl.minimum(low + 2 * step, high), tl.minimum(low + 3 * step, high)
        num1_of = tl.zeros((TILE,), tl.int32)
        num2_of = tl.zeros((TILE,), tl.int32)
        num3_of = tl.zeros((TILE,), tl.int32)
        if IS_MASS:
            mass1_of = tl.zeros((TILE,), tl.int64)
            mass2_of = tl.zeros((TILE,), tl.int64)
            mass3_of = tl.zeros((TILE,), tl.int64)
        for first in tl.range(0, vocab, TILE, num_stages=STAGES):
            scaled = _scaled(row, first, vocab, temperature, TILE)
            order = tl.where(first + tl.arange(0, TILE) < vocab, ordered(scaled), LOWEST)
            num1_of += tl.where(order >= t1, 1, 0)
            num2_of += tl.where(order >= t2, 1, 0)
            num3_of += tl.where(order >= t3, 1, 0)
            if IS_MASS:
                masses = _masses(scaled, largest, order, floor)
                mass1_of += tl.where(order >= t1, masses, 0)
                mass2_of += tl.where(order >= t2, masses, 0)
                mass3_of += tl.where(order >= t3, masses, 0)
        num1, num2, num3 = tl.sum(num1_of).to(tl.int64), tl.sum(num2_of).to(tl.int64), tl.sum(num3_of).to(tl.int64)
        if IS_MASS:
            has1, has2, has3 = tl.sum(mass1_of) >= target, tl.sum(mass2_of) >= target, tl.sum(mass3_of) >= target
        else:
            has1, has2, has3 = num1 >= target, num2 >= target, num3 >= target
        high = tl.where(has3, high, tl.where(has2, t3, tl.where(has1, t2, t1)))
        num_high = tl.where(has3, num_high, tl.where(has2, num3, tl.where(has1, num2, num1)))
        low = tl.where(has3, t3, tl.where(has2, t2, tl.where(has1, t1, low)))
        num_low = tl.where(has3, num3, tl.where(has2, num2, tl.where(has1, num1, num_low)))
    return low


@triton.jit
def cut_kernel(
    logits, rows, temperatures, log_min_ps, top_ks, top_ps, thresholds, vocab, row_stride, TILE: tl.constexpr
):
    sample = tl.program_id(0)
    temperature = tl.load(temperatures + sample)
    log_min_p, top_k, top_p = tl.load(log_min_ps + sample), tl.load(top_ks + sample), tl.load(top_ps + sample)
    row = logits + tl.load(rows + sample) * row_stride
    threshold = tl.load(rows + sample) * 0 + LOWEST
    if (log_min_p > float("-inf")) | (top_k > 0) | (top_p < 1.0):
        largest_of = tl.full((TILE,), float("-inf"), tl.float32)
        for first in tl.range(0, vocab, TILE, num_stages=STAGES):
            largest_of = tl.maximum(largest_of, _scaled(row, first, vocab, temperature, TILE))
        largest = tl.max(largest_of)
        if log_min_p > float("-inf"):
            least = largest.to(tl.float64) + log_min_p
            rounded = least.to(tl.float32)
            threshold = ordered(rounded) + tl.where(rounded.to(tl.float64) < least, 1, 0)
        if top_k > 0:
            target = tl.minimum(top_k, vocab).to(tl.int64)
            everything = threshold * 0 + LOWEST
            kth = _search(row, vocab, temperature, largest, everything, target, False, TILE)
            threshold = tl.maximum(threshold, kth)
        if top_p < 1.0:
            total_of = tl.zeros((TILE,), tl.int64)
            for first in tl.range(0, vocab, TILE, num_stages=STAGES):
                scaled = _scaled(row, first, vocab, temperature, TILE)
                total_of += _masses(scaled, largest, ordered(scaled), threshold)
            total = tl.sum(total_of)
            target = tl.ceil(total.to(tl.float64) * top_p).to(tl.int64)
            target = tl.minimum(tl.maximum(target, 1), total)
            threshold = _search(row, vocab, temperature, largest, threshold, target, True, TILE)
    tl.store(thresholds + sample, threshold)


def thresholds(logits_RV: Tensor, rows_S: Tensor, draws: Draws) -> Tensor:
    """The least order of a kept token's scaled logit, (S,) int64. `rows_S` are rows of `logits_RV`."""
    vocab = logits_RV.shape[1]
    assert logits_RV.dtype is torch.float32
    assert logits_RV.stride(1) == 1, "a row lies end to end"
    if not draws.has_cuts:
        return torch.full(rows_S.shape, LOWEST.value, dtype=torch.int64, device=rows_S.device)
    assert vocab <= MAX_VOCAB, f"a vocabulary of {vocab}: sums of probabilities leave 62 bits"
    thresholds_S = torch.empty(rows_S.shape, dtype=torch.int64, device=rows_S.device)
    cut_kernel[(len(rows_S),)](
        logits_RV,
        rows_S,
        draws.temperatures_S,
        draws.log_min_p_S,
        draws.top_k_S,
        draws.top_p_S,
        thresholds_S,
        vocab,
        logits_RV.stride(0),
        TILE=TILE,
        num_warps=NUM_WARPS,
        enable_fp_fusion=False,
    )
    return thresholds_S


SPECIMENS = (
    Specimen(
        kernel=cut_kernel,
        label="any",
        types={
            "logits": "*fp32",
            "rows": "*i64",
            "temperatures": "*fp32",
            "log_min_ps": "*fp64",
            "top_ks": "*i32",
            "top_ps": "*fp64",
            "thresholds": "*i64",
            "vocab": "i32",
            "row_stride": "i32",
        },
        constants={"TILE": TILE},
        num_warps=NUM_WARPS,
        has_fused_products=False,
        divisible=frozenset(("row_stride", "vocab")),
    ),
)
