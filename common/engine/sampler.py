"""Draw tokens from logits.

    logits fp32 -> options (shaper.py) -> / temperature -> min-p -> top-k -> top-p -> argmax(logit + Gumbel noise)

Greedy is the largest logit, the lowest id on a tie. Otherwise the Gumbel-max trick draws from the softmax of the kept
tokens; the noise of a token is a function of (seed, position, token) alone (common/engine/noise), so a draw repeats on
any worker, in any batch, and a logit that differs in its last bits changes it only at a near-tie. Tokens that tie with
the last one kept by a cut are kept as well: which tokens remain then depends on the logits alone.

Legend: S samples, V vocabulary, N candidates of a sample, the largest logits first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from common.core.ids import TokenId
from common.core.request import TokenSampling
from common.core.step import Sample
from common.engine.device_draws import draws_on_device
from common.engine.noise import GAMMA, MIX_FIRST, MIX_SECOND, noise_key, signed
from common.engine.shaper import shape_logits
from kernels import sampling
from kernels.dispatch import Backend, backend

CANDIDATES = (256, 4096)
"""How many of the likeliest tokens are looked at, one count after the other, before all: the first holds 95 % of the
probability of nearly every real distribution."""

BLOCK_ELEMENTS = (
    2**16
)  # Measured: samples x vocabulary at once; eight times more leaves the caches and costs twice as much.


def draw_tokens(logits_SV: Tensor, samples: Sequence[Sample]) -> list[TokenId]:
    """One token per sample from its own row of fp32 logits. The rows are not changed."""
    return [TokenId(token) for token in draw_ids(logits_SV, samples).tolist()]


def draw_ids(logits_SV: Tensor, samples: Sequence[Sample], largest_S: Tensor | None = None) -> Tensor:
    """The same as ids_S, int64, where the logits lie. A GPU is not waited for.

    `largest_S`: which of its row's logits is the largest, where that is known already.
    """
    if backend(logits_SV) is Backend.TRITON:
        draws = draws_on_device(samples, range(len(samples)), logits_SV.shape[1], logits_SV.device)
        return sampling.draw_tokens(logits_SV, draws)
    shaped_SV = shape_logits(logits_SV, samples)
    drawn_S = shaped_SV.argmax(dim=-1) if largest_S is None or shaped_SV is not logits_SV else largest_S.clone()
    random_rows = [row for row, sample in enumerate(samples) if not sample.sampling.is_greedy]
    block = max(1, BLOCK_ELEMENTS // logits_SV.shape[1])
    for first in range(0, len(random_rows), block):
        rows = random_rows[first : first + block]
        drawn_S[rows] = _draw_random(shaped_SV[rows], [samples[row] for row in rows])
    return drawn_S


def noise_words(keys_S: Tensor, tokens_SN: Tensor) -> Tensor:
    """noise_word of common/engine/noise for every sample and token: int64 bit patterns of the unsigned words."""
    state = keys_S[:, None] + (tokens_SN + 1) * signed(GAMMA)
    state = (state ^ _shift_right(state, 30)) * signed(MIX_FIRST)
    state = (state ^ _shift_right(state, 27)) * signed(MIX_SECOND)
    return state ^ _shift_right(state, 31)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cuts:
    """Which tokens of each sample may be drawn. min_p 0, top_k 0 and top_p 1 are off."""

    min_p_S: Tensor
    top_k_S: Tensor
    top_p_S: Tensor

    @classmethod
    def of(cls, samplings: Sequence[TokenSampling], device: torch.device) -> "Cuts":
        return cls(
            min_p_S=torch.tensor([each.min_p for each in samplings], dtype=torch.float64, device=device),
            top_k_S=torch.tensor([each.top_k for each in samplings], device=device),
            top_p_S=torch.tensor([each.top_p for each in samplings], dtype=torch.float64, device=device),
        )

    def rows(self, rows_R: Tensor) -> "Cuts":
        return Cuts(min_p_S=self.min_p_S[rows_R], top_k_S=self.top_k_S[rows_R], top_p_S=self.top_p_S[rows_R])

    def are_any(self) -> Tensor:
        """Per sample, whether anything is cut."""
        return (self.min_p_S > 0) | (self.top_k_S > 0) | (self.top_p_S < 1)


def kept_tokens(sorted_SN: Tensor, totals_S: Tensor, cuts: Cuts) -> tuple[Tensor, Tensor]:
    """Which candidates min-p, then top-k, then top-p keep, and whether the candidates were enough to know.

    sorted_SN: scaled logits, largest first; totals_S: log of the sum of exponentials over all tokens of the sample.
    Returns is_kept_SN and is_settled_S. Min-p keeps tokens with at least that share of the likeliest one's probability.
    Top-p keeps a token while the probability of those before it, among what the others kept, is below top_p. The first
    is always kept.
    """
    num_candidates = sorted_SN.shape[1]
    top_k_S, has_k_S, has_p_S = cuts.top_k_S, cuts.top_k_S > 0, cuts.top_p_S < 1
    last_S1 = (torch.where(has_k_S, top_k_S, num_candidates).clamp(max=num_candidates) - 1)[:, None]
    least_S1 = sorted_SN[:, :1].double() + cuts.min_p_S.log()[:, None]
    is_within_SN = (sorted_SN.double() >= least_S1) & (~has_k_S[:, None] | (sorted_SN >= sorted_SN.gather(1, last_S1)))
    has_edge_S = has_k_S | (cuts.min_p_S > 0)
    wide_SN = sorted_SN.double().masked_fill(~is_within_SN, float("-inf"))
    totals_S = torch.where(has_edge_S, wide_SN.logsumexp(dim=1), totals_S.double())
    probabilities_SN = (wide_SN - totals_S[:, None]).exp()
    before_SN = probabilities_SN.cumsum(dim=1) - probabilities_SN
    count_S = ((before_SN < cuts.top_p_S[:, None]) & is_within_SN).sum(dim=1).clamp(min=1)
    smallest_S1 = sorted_SN.gather(1, count_S[:, None] - 1)
    is_kept_SN = is_within_SN & (~has_p_S[:, None] | (sorted_SN >= smallest_S1))
    is_settled_S = ~is_kept_SN[:, -1] & (~has_edge_S | ~is_within_SN[:, -1])
    return is_kept_SN, is_settled_S


def _draw_random(logits_SV: Tensor, samples: Sequence[Sample]) -> Tensor:
    """Tokens of samples with a temperature: first among the likeliest candidates, then, where needed, among all."""
    device = logits_SV.device
    temperatures_S = torch.tensor([sample.sampling.temperature for sample in samples], device=device)
    keys_S = torch.tensor([signed(noise_key(sample.seed, sample.position)) for sample in samples], device=device)
    cuts = Cuts.of([sample.sampling for sample in samples], device)
    scaled_SV = logits_SV / temperatures_S[:, None]
    totals_S = scaled_SV.logsumexp(dim=1)
    drawn_S = torch.zeros(len(samples), dtype=torch.int64, device=device)
    is_cut_S = cuts.are_any()
    rest_R = (~is_cut_S).nonzero()[:, 0]
    if len(rest_R):
        tokens_RV = torch.arange(scaled_SV.shape[1], device=device).expand(len(rest_R), -1)
        drawn_S[rest_R] = _largest_noisy(scaled_SV[rest_R], tokens_RV, keys_S[rest_R])
    open_R = is_cut_S.nonzero()[:, 0]
    for num_candidates in sorted({min(count, scaled_SV.shape[1]) for count in (*CANDIDATES, scaled_SV.shape[1])}):
        if not len(open_R):
            break
        values_RN, tokens_RN = scaled_SV[open_R].topk(num_candidates, dim=1)
        is_kept_RN, is_settled_R = kept_tokens(values_RN, totals_S[open_R], cuts.rows(open_R))
        values_RN = values_RN.masked_fill(~is_kept_RN, float("-inf"))
        drawn_S[open_R] = _largest_noisy(values_RN, tokens_RN, keys_S[open_R])
        open_R = open_R[~is_settled_R]
    return drawn_S


def _largest_noisy(values_SN: Tensor, tokens_SN: Tensor, keys_S: Tensor) -> Tensor:
    """argmax of value - log(-log(uniform)), the uniform being the upper 32 bits of the token's noise."""
    upper_SN = _shift_right(noise_words(keys_S, tokens_SN), 32)
    exponential_SN = -torch.log1p(-(upper_SN.double() + 0.5) / 2**32)
    best_S1 = (values_SN.double() - exponential_SN.log()).argmax(dim=1, keepdim=True)
    return tokens_SN.gather(1, best_S1)[:, 0]


def _shift_right(words: Tensor, count: int) -> Tensor:
    """Logical shift: torch's own copies the sign."""
    return (words >> count) & ((1 << (64 - count)) - 1)
