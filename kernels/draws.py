"""What draws are asked with, and what is told of them, as tensors on the device that draws (kernels/sampling).

Legend: S samples, V vocabulary, M masks, W words of 32 bits, N numbers in lists end to end, K likeliest tokens.
"""

from dataclasses import dataclass

from torch import Tensor

MAX_LIKELIEST = 20
"""Likeliest tokens told with each token at most."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenLists:
    """A list of ids per sample: those of sample s are tokens_N[starts[s]:starts[s + 1]]. int32 and int64.

    No id stands twice in a list.
    """

    starts_S1: Tensor
    tokens_N: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Edits:
    """What options make of the logits before a draw. Every list has S entries, empty ones too.

    `masks_MW` (int32) has a bit per id; the first masks are given, one more per sample with allowed ids is zero and is
    filled on the device. `mask_rows_S` and `allowed_rows_S` (int32) say which belong to a sample, -1: none.
    `masks_MW` is None where no sample has either. `biases_N` go with `biased`, `counts_N` (int64) with `seen`.
    """

    masks_MW: Tensor | None
    mask_rows_S: Tensor
    allowed_rows_S: Tensor
    allowed: TokenLists
    banned: TokenLists
    biased: TokenLists
    biases_N: Tensor
    seen: TokenLists
    counts_N: Tensor
    repetitions_S: Tensor
    frequencies_S: Tensor
    presences_S: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draws:
    """S draws. `rows_S` (int64) are the rows of logits they draw from.

    Greedy ones have temperature 1, is_random 0, and no cuts. `keys_S` are noise keys as int64 bit patterns;
    `log_min_p_S` (fp64, -inf: off), `top_k_S` (int32, 0: off), `top_p_S` (fp64, 1: off). `has_cuts`: any is on.
    """

    rows_S: Tensor
    temperatures_S: Tensor
    is_random_S: Tensor
    keys_S: Tensor
    log_min_p_S: Tensor
    top_k_S: Tensor
    top_p_S: Tensor
    has_cuts: bool
    edits: Edits | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """Log probabilities of N tokens, fp32; ranks from 1; the K likeliest ids of each row, best first, then by id."""

    logprobs_N: Tensor
    ranks_N: Tensor
    likeliest_NK: Tensor
    likeliest_logprobs_NK: Tensor
