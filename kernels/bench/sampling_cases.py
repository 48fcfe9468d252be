"""Draws and log probabilities of 64 sequences over a vocabulary of 128,256, and of one."""

from functools import partial

import torch
from torch import Tensor

from kernels import reference_sampling
from kernels.bench.case import Case, Planned, relative_error
from kernels.draws import Draws
from kernels.sampling import draw_tokens, score_tokens

VOCAB = 128_256
TEMPERATURE = 0.8
CHECKED = 4
"""Samples that the oracle draws as well."""


def _logits(samples: int, device: torch.device, *, is_small: bool) -> Tensor:
    shape = (2, 300) if is_small else (samples, VOCAB)
    return torch.empty(shape, device=device).normal_() * 3


def drawn(name: str, samples: int, top_k: int, top_p: float, device: torch.device, *, is_small: bool) -> Case:
    """No penalties; every sample with the same cuts."""
    logits_SV = _logits(samples, device, is_small=is_small)
    count = len(logits_SV)
    draws = Draws(
        rows_S=torch.arange(count, device=device),
        temperatures_S=torch.full((count,), TEMPERATURE, device=device),
        is_random_S=torch.ones(count, dtype=torch.int32, device=device),
        keys_S=torch.randint(-(2**62), 2**62, (count,), device=device),
        log_min_p_S=torch.full((count,), -torch.inf, dtype=torch.float64, device=device),
        top_k_S=torch.full((count,), top_k, dtype=torch.int32, device=device),
        top_p_S=torch.full((count,), top_p, dtype=torch.float64, device=device),
        has_cuts=top_k > 0 or top_p < 1,
        edits=None,
    )

    def error() -> float:
        """The share of checked draws that differ."""
        tokens = draw_tokens(logits_SV, draws).tolist()
        wrong = 0
        for sample in range(min(CHECKED, count)):
            scaled_V = logits_SV[sample] / draws.temperatures_S[sample]
            is_kept_V = reference_sampling.kept(scaled_V, -torch.inf, top_k, top_p)
            key = int(draws.keys_S[sample]) % 2**64
            wrong += tokens[sample] != reference_sampling.draw(scaled_V, is_kept_V, key)
        return wrong / min(CHECKED, count)

    return Case(
        name=name,
        num_bytes=logits_SV.nbytes,
        flops=0,
        tolerance=0.0,
        error=error,
        run=lambda _: draw_tokens(logits_SV, draws),
    )


def scored(name: str, samples: int, device: torch.device, *, is_small: bool) -> Case:
    """With the 20 likeliest."""
    logits_SV = _logits(samples, device, is_small=is_small)
    rows_N = torch.arange(len(logits_SV), device=device)
    tokens_N = torch.randint(logits_SV.shape[1], rows_N.shape, device=device)

    def error() -> float:
        scores = score_tokens(logits_SV, rows_N, tokens_N, 20)
        logprobs_NV = logits_SV.double().log_softmax(dim=1)
        own = relative_error(scores.logprobs_N, logprobs_NV[rows_N, tokens_N])
        return max(own, relative_error(scores.likeliest_logprobs_NK, logprobs_NV.topk(20).values))

    return Case(
        name=name,
        num_bytes=logits_SV.nbytes,
        flops=0,
        tolerance=1e-5,
        error=error,
        run=lambda _: score_tokens(logits_SV, rows_N, tokens_N, 20),
    )


CUTS = {"": (0, 1.0), ", top_k 50": (50, 1.0), ", top_p 0.95": (0, 0.95), ", top_k 50, top_p 0.95": (50, 0.95)}
CASES = (
    *(
        Planned(name=f"draw {samples}{what}", make=partial(drawn, f"draw {samples}{what}", samples, *cuts))
        for samples in (1, 64)
        for what, cuts in CUTS.items()
    ),
    Planned(name="log probabilities 64", make=partial(scored, "log probabilities 64", 64)),
)
