"""Log probabilities of tokens from raw logits: the token's own, its rank, and the likeliest.

Each row is computed for itself, in fp32, so that it says the same alone and in any batch. Legend: N tokens, V
vocabulary, K likeliest.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from common.core.ids import TokenId
from common.core.logprobs import TokenLogprobs
from common.engine.host_copy import to_device
from kernels import sampling
from kernels.dispatch import Backend, backend
from kernels.draws import Scores

BLOCK_ELEMENTS = 2**20
"""Chosen: rows times vocabulary at once, so that a long prompt's scores need a few megabytes beside its logits."""


def score_tokens(logits_NV: Tensor, tokens: Sequence[TokenId], num_top: Sequence[int]) -> list[TokenLogprobs]:
    """One for each row: how likely its token was, and its `num_top` likeliest. `logits_NV` are finite."""
    tokens_N = to_device(torch.tensor(tokens, dtype=torch.int64), logits_NV.device)
    return told(score_ids(logits_NV, tokens_N, num_top), num_top)


def score_ids(logits_NV: Tensor, tokens_N: Tensor, num_top: Sequence[int]) -> Scores:
    """The same as tensors where the logits lie. A GPU is not waited for."""
    count = min(max(num_top), logits_NV.shape[1])
    if backend(logits_NV) is Backend.TRITON:
        return sampling.score_tokens(logits_NV, torch.arange(len(tokens_N), device=logits_NV.device), tokens_N, count)
    block = max(1, BLOCK_ELEMENTS // logits_NV.shape[1])
    blocks = [slice(first, first + block) for first in range(0, len(tokens_N), block)]
    parts = [_score_block(logits_NV[rows], tokens_N[rows], count) for rows in blocks]
    return Scores(
        logprobs_N=torch.cat([part.logprobs_N for part in parts]),
        ranks_N=torch.cat([part.ranks_N for part in parts]),
        likeliest_NK=torch.cat([part.likeliest_NK for part in parts]),
        likeliest_logprobs_NK=torch.cat([part.likeliest_logprobs_NK for part in parts]),
    )


def _score_block(logits_NV: Tensor, tokens_N: Tensor, count: int) -> Scores:
    # A negative zero would sort below zero in `_likeliest`; adding zero removes the sign.
    logprobs_NV = logits_NV.log_softmax(dim=1) + 0.0
    own_N1 = logprobs_NV.gather(1, tokens_N[:, None])
    ids_NK = _likeliest(logprobs_NV, count)
    return Scores(
        logprobs_N=own_N1[:, 0],
        ranks_N=(logprobs_NV > own_N1).sum(dim=1) + 1,
        likeliest_NK=ids_NK,
        likeliest_logprobs_NK=logprobs_NV.gather(1, ids_NK),
    )


def told(scores: Scores, num_top: Sequence[int]) -> list[TokenLogprobs]:
    """What tensors on the host say, with `num_top` likeliest of each row."""
    own, ranks = scores.logprobs_N.tolist(), scores.ranks_N.tolist()
    ids, values = scores.likeliest_NK.tolist(), scores.likeliest_logprobs_NK.tolist()
    return [
        TokenLogprobs(
            logprob=own[row], rank=ranks[row], top_ids=tuple(ids[row][:count]), top_logprobs=tuple(values[row][:count])
        )
        for row, count in enumerate(num_top)
    ]


def _likeliest(logprobs_NV: Tensor, count: int) -> Tensor:
    """ids_NK of the `count` largest, best first, equal ones by id: what torch does with equal ones is not promised.

    A float's bits, read as an integer, order like the float once the negative half is turned around; the id goes below.
    """
    bits_NV = logprobs_NV.view(torch.int32)
    ordered_NV = (bits_NV ^ ((bits_NV >> 31) & 0x7FFFFFFF)).long()
    below_V = torch.arange(logprobs_NV.shape[1] - 1, -1, -1, device=logprobs_NV.device)
    best_NK = ((ordered_NV << 32) | below_V).topk(count, dim=1).values
    return logprobs_NV.shape[1] - 1 - (best_NK & 0xFFFFFFFF)
