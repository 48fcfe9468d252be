"""Draw one token per sample: argmax of logit / temperature + Gumbel noise over the tokens kept; greedy without noise.

    noise(token) = -log(-log(1 - (u + 1/2) / 2^32)),  u the upper 32 bits of mix(key + (token + 1) * GAMMA)

The words are common/engine/noise, bit for bit; logarithms are fp64, as on the CPU, so that the token is the CPU's for
the same logits unless the two best lie within the last bits of fp64's logarithm. On a tie the lowest id is drawn.

Bound by fp64 arithmetic where nothing is cut, else by bytes: one read of the logits. Grid (S, V / TILE), then (S,).
Legend: R rows of logits, S samples, V vocabulary, N tiles of the vocabulary.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.draws import Draws
from kernels.gpu.order import ordered
from kernels.gpu.specimen import Specimen

TILE = 1024
GAMMA = tl.constexpr(0x9E3779B97F4A7C15)
MIX_FIRST = tl.constexpr(0xBF58476D1CE4E5B9)
MIX_SECOND = tl.constexpr(0x94D049BB133111EB)


@triton.jit
def noise_words(key, tokens):
    """64 bits for every token; key and result uint64."""
    state = key + (tokens + 1).to(tl.uint64) * GAMMA
    state = (state ^ (state >> 30)) * MIX_FIRST
    state = (state ^ (state >> 27)) * MIX_SECOND
    return state ^ (state >> 31)


@triton.jit
def perturb_kernel(
    logits, rows, temperatures, is_random, keys, thresholds, best, best_tokens, vocab, row_stride, TILE: tl.constexpr
):
    sample, tile = tl.program_id(0), tl.program_id(1)
    tokens = tile * TILE + tl.arange(0, TILE)
    x = tl.load(logits + tl.load(rows + sample) * row_stride + tokens, mask=tokens < vocab, other=float("-inf"))
    scaled = tl.div_rn(x, tl.load(temperatures + sample))
    is_kept = (tokens < vocab) & (ordered(scaled) >= tl.load(thresholds + sample))
    values = tl.where(is_kept, scaled.to(tl.float64), float("-inf"))
    if (tl.load(is_random + sample) != 0) & (tl.max(tl.where(is_kept, 1, 0)) > 0):
        upper = (noise_words(tl.load(keys + sample).to(tl.uint64, bitcast=True), tokens.to(tl.int64)) >> 32).to(
            tl.int64
        )
        # 1 - (u + 1/2) / 2^32 has 33 bits: exact.
        exponential = -tl.log((4294967296.0 - upper.to(tl.float64) - 0.5) * 2.3283064365386963e-10)
        values = tl.where(is_kept, values - tl.log(exponential), float("-inf"))
    largest, place = tl.max(values, axis=0, return_indices=True, return_indices_tie_break_left=True)
    slot = sample.to(tl.int64) * tl.num_programs(1) + tile
    tl.store(best + slot, largest)
    tl.store(best_tokens + slot, (tile * TILE + place).to(tl.int64))


@triton.jit(do_not_specialize=["num_tiles"])
def pick_kernel(best, best_tokens, drawn, num_tiles, TILES: tl.constexpr):
    sample = tl.program_id(0).to(tl.int64)
    tiles = tl.arange(0, TILES)
    values = tl.load(best + sample * num_tiles + tiles, mask=tiles < num_tiles, other=float("-inf"))
    _, place = tl.max(values, axis=0, return_indices=True, return_indices_tie_break_left=True)
    tl.store(drawn + sample, tl.load(best_tokens + sample * num_tiles + place))


def draw(logits_RV: Tensor, rows_S: Tensor, draws: Draws, thresholds_S: Tensor) -> Tensor:
    """Ids drawn, (S,) int64. `rows_S` are rows of `logits_RV`, fp32."""
    num_samples, vocab = len(rows_S), logits_RV.shape[1]
    assert logits_RV.dtype is torch.float32
    assert logits_RV.stride(1) == 1, "a row lies end to end"
    num_tiles = triton.cdiv(vocab, TILE)
    best_SN = torch.empty(num_samples, num_tiles, dtype=torch.float64, device=logits_RV.device)
    best_tokens_SN = torch.empty(num_samples, num_tiles, dtype=torch.int64, device=logits_RV.device)
    drawn_S = torch.empty(num_samples, dtype=torch.int64, device=logits_RV.device)
    if num_samples:
        perturb_kernel[(num_samples, num_tiles)](
            logits_RV,
            rows_S,
            draws.temperatures_S,
            draws.is_random_S,
            draws.keys_S,
            thresholds_S,
            best_SN,
            best_tokens_SN,
            vocab,
            logits_RV.stride(0),
            TILE=TILE,
            enable_fp_fusion=False,
        )
        tiles = triton.next_power_of_2(num_tiles)
        pick_kernel[(num_samples,)](best_SN, best_tokens_SN, drawn_S, num_tiles, TILES=tiles, num_warps=1)
    return drawn_S


SPECIMENS = (
    Specimen(
        kernel=perturb_kernel,
        label="any",
        types={
            "logits": "*fp32",
            "rows": "*i64",
            "temperatures": "*fp32",
            "is_random": "*i32",
            "keys": "*i64",
            "thresholds": "*i64",
            "best": "*fp64",
            "best_tokens": "*i64",
            "vocab": "i32",
            "row_stride": "i32",
        },
        constants={"TILE": TILE},
        has_fused_products=False,
        divisible=frozenset(("row_stride", "vocab")),
    ),
    Specimen(
        kernel=pick_kernel,
        label="V 131072",
        types={"best": "*fp64", "best_tokens": "*i64", "drawn": "*i64", "num_tiles": "i32"},
        constants={"TILES": 128},
        num_warps=1,
    ),
)
