"""What a request's options make of its logits, before anything is drawn: common/engine/shaper, bit for bit.

    constraint and allowed ids -> bans -> logit bias -> repetition -> frequency and presence

Masks come as bits, or are made of lists of ids here; the other options are lists of (token, number), one after the
other for each sample. Products are not fused with sums: the CPU rounds both.

Bound by bytes: rows with a mask are read and written once. Grid (S, V / TILE) for masks, (S,) for lists.
Legend: S samples, V vocabulary, M masks, W words of 32 bits, N (sample, token) pairs, end to end.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.draws import Edits
from kernels.gpu.specimen import Specimen

MASK_TILE = 2048
PAIR_TILE = 256
BITS = tl.constexpr(32)


@triton.jit
def allow_kernel(starts, tokens, rows, masks, vocab, num_words, TILE: tl.constexpr):
    """Set the bit of every listed token in the mask of its sample."""
    sample = tl.program_id(0)
    mask = masks + tl.load(rows + sample).to(tl.int64) * num_words
    end = tl.load(starts + sample + 1)
    for first in range(tl.load(starts + sample), end, TILE):
        places = first + tl.arange(0, TILE)
        token = tl.load(tokens + places, mask=places < end, other=0)
        is_in = (places < end) & (token < vocab)
        bit = (tl.full((TILE,), 1, tl.int32) << (token % BITS).to(tl.int32)).to(tl.int32)
        tl.atomic_or(mask + token // BITS, bit, mask=is_in, sem="relaxed")


@triton.jit
def mask_kernel(logits, mask_rows, allowed_rows, masks, vocab, num_words, TILE: tl.constexpr):
    """-inf where a mask of the sample has no bit. A row of -1 is no mask."""
    sample = tl.program_id(0).to(tl.int64)
    tokens = tl.program_id(1) * TILE + tl.arange(0, TILE)
    is_in = tokens < vocab
    is_out = tokens < 0
    row = tl.load(mask_rows + sample)
    if row >= 0:
        word = tl.load(masks + row.to(tl.int64) * num_words + tokens // BITS, mask=is_in, other=0)
        is_out = is_out | (((word >> (tokens % BITS)) & 1) == 0)
    row = tl.load(allowed_rows + sample)
    if row >= 0:
        word = tl.load(masks + row.to(tl.int64) * num_words + tokens // BITS, mask=is_in, other=0)
        is_out = is_out | (((word >> (tokens % BITS)) & 1) == 0)
    tl.store(logits + sample * vocab + tokens, float("-inf"), mask=is_in & is_out)


@triton.jit
def edit_kernel(
    logits,
    banned_starts,
    banned,
    biased_starts,
    biased,
    biases,
    seen_starts,
    seen,
    counts,
    repetitions,
    frequencies,
    presences,
    vocab,
    TILE: tl.constexpr,
):
    """One program walks the lists of its sample; a barrier after each, for a token may be on several."""
    sample = tl.program_id(0).to(tl.int64)
    row = logits + sample * vocab
    end = tl.load(banned_starts + sample + 1)
    for first in range(tl.load(banned_starts + sample), end, TILE):
        places = first + tl.arange(0, TILE)
        token = tl.load(banned + places, mask=places < end, other=0)
        tl.store(row + token, float("-inf"), mask=(places < end) & (token < vocab))
    tl.debug_barrier()
    end = tl.load(biased_starts + sample + 1)
    for first in range(tl.load(biased_starts + sample), end, TILE):
        places = first + tl.arange(0, TILE)
        token = tl.load(biased + places, mask=places < end, other=0)
        bias = tl.load(biases + places, mask=places < end, other=0.0)
        x = tl.load(row + token, mask=places < end, other=0.0)
        tl.store(row + token, x + bias, mask=places < end)
    tl.debug_barrier()
    end = tl.load(seen_starts + sample + 1)
    repetition, frequency = tl.load(repetitions + sample), tl.load(frequencies + sample)
    presence = tl.load(presences + sample)
    for first in range(tl.load(seen_starts + sample), end, TILE):
        places = first + tl.arange(0, TILE)
        token = tl.load(seen + places, mask=places < end, other=0)
        count = tl.load(counts + places, mask=places < end, other=0)
        x = tl.load(row + token, mask=places < end, other=0.0)
        x = tl.where(x > 0, tl.div_rn(x, repetition), x * repetition)
        x = x - frequency * count.to(tl.float32) - presence * tl.where(count > 0, 1.0, 0.0)
        tl.store(row + token, x, mask=places < end)


def shape_logits_(logits_SV: Tensor, edits: Edits) -> None:
    """Row s of `logits_SV` (fp32, contiguous) becomes what sample s draws from."""
    num_samples, vocab = logits_SV.shape
    assert logits_SV.dtype is torch.float32
    assert logits_SV.is_contiguous(), "rows lie end to end"
    masks_MW = edits.masks_MW
    if masks_MW is not None:
        num_words = masks_MW.shape[1]
        assert num_words * BITS.value >= vocab, f"{num_words} words for {vocab} ids"
        if len(edits.allowed.tokens_N):
            allow_kernel[(num_samples,)](
                edits.allowed.starts_S1,
                edits.allowed.tokens_N,
                edits.allowed_rows_S,
                masks_MW,
                vocab,
                num_words,
                TILE=PAIR_TILE,
            )
        mask_kernel[(num_samples, triton.cdiv(vocab, MASK_TILE))](
            logits_SV, edits.mask_rows_S, edits.allowed_rows_S, masks_MW, vocab, num_words, TILE=MASK_TILE
        )
    edit_kernel[(num_samples,)](
        logits_SV,
        edits.banned.starts_S1,
        edits.banned.tokens_N,
        edits.biased.starts_S1,
        edits.biased.tokens_N,
        edits.biases_N,
        edits.seen.starts_S1,
        edits.seen.tokens_N,
        edits.counts_N,
        edits.repetitions_S,
        edits.frequencies_S,
        edits.presences_S,
        vocab,
        TILE=PAIR_TILE,
        enable_fp_fusion=False,
    )


_LISTS = {"banned": "*i64", "biased": "*i64", "biases": "*fp32", "seen": "*i64", "counts": "*i64"}
_STARTS = dict.fromkeys(("banned_starts", "biased_starts", "seen_starts"), "*i32")
_PENALTIES = dict.fromkeys(("repetitions", "frequencies", "presences"), "*fp32")
_SIZES = {"masks": "*i32", "vocab": "i32", "num_words": "i32"}
SPECIMENS = (
    Specimen(
        kernel=allow_kernel,
        label="any",
        types={"starts": "*i32", "tokens": "*i64", "rows": "*i32", **_SIZES},
        constants={"TILE": PAIR_TILE},
    ),
    Specimen(
        kernel=mask_kernel,
        label="any",
        types={"logits": "*fp32", "mask_rows": "*i32", "allowed_rows": "*i32", **_SIZES},
        constants={"TILE": MASK_TILE},
    ),
    Specimen(
        kernel=edit_kernel,
        label="any",
        types={"logits": "*fp32", "vocab": "i32", **_LISTS, **_STARTS, **_PENALTIES},
        constants={"TILE": PAIR_TILE},
        has_fused_products=False,
    ),
)
