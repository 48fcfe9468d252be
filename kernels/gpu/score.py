"""Log probabilities of tokens from raw logits: the token's own, its rank, and the likeliest ones.

    logprob = logit - log(sum(exp(logits)))        in fp32; rank = 1 + how many logprobs are larger

The likeliest K: every tile of the vocabulary gives its K best, as (order of the logprob, id) in one 64-bit integer, and
one program takes the K best of those. Equal logprobs go by id. Sums are taken in another order than the CPU's: values
within 1e-5 of it, and ranks the same but where two logprobs are as close.

Bound by bytes: three reads of a row, two of them from the L2 cache. Grid (N,), then (N, V / TILE), then (N,).
Legend: R rows of logits, V vocabulary, N scored tokens, K likeliest, C candidates.
"""

from dataclasses import replace

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.draws import MAX_LIKELIEST, Scores
from kernels.gpu.order import float_of, ordered
from kernels.gpu.specimen import Specimen

TILE = 4096
NUM_WARPS = 8
COUNTS = (0, 1, 5, MAX_LIKELIEST)
"""Kernels are compiled for these many likeliest tokens; who asks for fewer gets the beginning."""
STAGES = tl.constexpr(3)  # As in cut: tiles on their way from the cache.
BELOW = tl.constexpr(0xFFFFFFFF)  # An id turned around with it: of equal logprobs the lowest id is the largest.
NOTHING = tl.constexpr(-(2**63))


@triton.jit
def own_kernel(logits, rows, tokens, totals, logprobs, ranks, vocab, row_stride, TILE: tl.constexpr):
    """The log of the sum of exponentials, the token's own logprob and its rank."""
    entry = tl.program_id(0)
    row = logits + tl.load(rows + entry) * row_stride
    largest_of = tl.full((TILE,), float("-inf"), tl.float32)
    for first in tl.range(0, vocab, TILE, num_stages=STAGES):
        ids = first + tl.arange(0, TILE)
        largest_of = tl.maximum(largest_of, tl.load(row + ids, mask=ids < vocab, other=float("-inf")))
    largest = tl.max(largest_of)
    sum_of = tl.zeros((TILE,), tl.float32)
    for first in tl.range(0, vocab, TILE, num_stages=STAGES):
        ids = first + tl.arange(0, TILE)
        sum_of += tl.exp(tl.load(row + ids, mask=ids < vocab, other=float("-inf")) - largest)
    total = largest + tl.log(tl.sum(sum_of))
    own = tl.load(row + tl.load(tokens + entry)) - total
    larger_of = tl.zeros((TILE,), tl.int32)
    for first in tl.range(0, vocab, TILE, num_stages=STAGES):
        ids = first + tl.arange(0, TILE)
        x = tl.load(row + ids, mask=ids < vocab, other=float("-inf"))
        larger_of += tl.where(x - total > own, 1, 0)
    tl.store(totals + entry, total)
    tl.store(logprobs + entry, own + 0.0)
    tl.store(ranks + entry, tl.sum(larger_of) + 1)


@triton.jit
def _store_best(candidates, out, COUNT: tl.constexpr):
    """The COUNT largest of different integers, one after the other."""
    for place in range(COUNT):
        best = tl.max(candidates)
        tl.store(out + place, best)
        candidates = tl.where(candidates == best, NOTHING, candidates)


@triton.jit
def tile_best_kernel(logits, rows, totals, best, vocab, row_stride, COUNT: tl.constexpr, TILE: tl.constexpr):
    entry, tile = tl.program_id(0), tl.program_id(1)
    ids = tile * TILE + tl.arange(0, TILE)
    row = logits + tl.load(rows + entry) * row_stride
    x = tl.load(row + ids, mask=ids < vocab, other=float("-inf")) - tl.load(totals + entry)
    candidates = tl.where(ids < vocab, (ordered(x) << 32) | (ids.to(tl.int64) ^ BELOW), NOTHING)
    slot = entry.to(tl.int64) * tl.num_programs(1) + tile
    _store_best(candidates, best + slot * COUNT, COUNT)


@triton.jit(do_not_specialize=["num_candidates"])
def best_kernel(best, ids, logprobs, num_candidates, COUNT: tl.constexpr, CANDIDATES: tl.constexpr):
    entry = tl.program_id(0).to(tl.int64)
    places = tl.arange(0, CANDIDATES)
    candidates = tl.load(best + entry * num_candidates + places, mask=places < num_candidates, other=NOTHING)
    for place in range(COUNT):
        largest = tl.max(candidates)
        tl.store(ids + entry * COUNT + place, (largest & BELOW) ^ BELOW)
        tl.store(logprobs + entry * COUNT + place, float_of(largest >> 32))
        candidates = tl.where(candidates == largest, NOTHING, candidates)


def score(logits_RV: Tensor, rows_N: Tensor, tokens_N: Tensor, num_likeliest: int) -> Scores:
    """Scores of `tokens_N` by rows `rows_N` (both int64) of fp32 logits."""
    vocab, num_scored, device = logits_RV.shape[1], len(rows_N), logits_RV.device
    assert 0 <= num_likeliest <= MAX_LIKELIEST, f"{num_likeliest} likeliest tokens of at most {MAX_LIKELIEST}"
    count = min(next(each for each in COUNTS if each >= num_likeliest), vocab)
    assert logits_RV.dtype is torch.float32
    assert logits_RV.stride(1) == 1, "a row lies end to end"
    totals_N = torch.empty(num_scored, dtype=torch.float32, device=device)
    scores = Scores(
        logprobs_N=torch.empty(num_scored, dtype=torch.float32, device=device),
        ranks_N=torch.empty(num_scored, dtype=torch.int32, device=device),
        likeliest_NK=torch.empty(num_scored, count, dtype=torch.int64, device=device),
        likeliest_logprobs_NK=torch.empty(num_scored, count, dtype=torch.float32, device=device),
    )
    if num_scored == 0:
        return scores
    stride = logits_RV.stride(0)
    own_kernel[(num_scored,)](
        logits_RV,
        rows_N,
        tokens_N,
        totals_N,
        scores.logprobs_N,
        scores.ranks_N,
        vocab,
        stride,
        TILE=TILE,
        num_warps=NUM_WARPS,
    )
    if count:
        num_tiles = triton.cdiv(vocab, TILE)
        best_NC = torch.empty(num_scored, num_tiles * count, dtype=torch.int64, device=device)
        tile_best_kernel[(num_scored, num_tiles)](
            logits_RV, rows_N, totals_N, best_NC, vocab, stride, COUNT=count, TILE=TILE, num_warps=NUM_WARPS
        )
        best_kernel[(num_scored,)](
            best_NC,
            scores.likeliest_NK,
            scores.likeliest_logprobs_NK,
            num_tiles * count,
            COUNT=count,
            CANDIDATES=triton.next_power_of_2(num_tiles * count),
        )
    return replace(
        scores,
        likeliest_NK=scores.likeliest_NK[:, :num_likeliest],
        likeliest_logprobs_NK=scores.likeliest_logprobs_NK[:, :num_likeliest],
    )


_ROWS = {"logits": "*fp32", "rows": "*i64", "totals": "*fp32", "vocab": "i32", "row_stride": "i32"}
SPECIMENS = (
    Specimen(
        kernel=own_kernel,
        label="any",
        types={**_ROWS, "tokens": "*i64", "logprobs": "*fp32", "ranks": "*i32"},
        constants={"TILE": TILE},
        num_warps=NUM_WARPS,
        divisible=frozenset(("row_stride", "vocab")),
    ),
    Specimen(
        kernel=tile_best_kernel,
        label="K 20",
        types={**_ROWS, "best": "*i64"},
        constants={"COUNT": MAX_LIKELIEST, "TILE": TILE},
        num_warps=NUM_WARPS,
        divisible=frozenset(("row_stride", "vocab")),
    ),
    Specimen(
        kernel=best_kernel,
        label="K 20, V 131072",
        types={"best": "*i64", "ids": "*i64", "logprobs": "*fp32", "num_candidates": "i32"},
        constants={"COUNT": MAX_LIKELIEST, "CANDIDATES": 1024},
    ),
)
