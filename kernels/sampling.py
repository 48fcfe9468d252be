"""Draw tokens and tell their log probabilities on the device that holds the logits; nothing waits for it.

Lives on CUDA alone: on the CPU the engine's own sampler defines what is drawn, and these operators agree with it. What
samples ask for arrives as tensors; who makes them of requests is the engine (common/engine/device_sampler).

Legend: R rows of logits, S samples, V vocabulary, N tokens to score.
"""

import torch
from torch import Tensor

from kernels.draws import Draws, Scores


def draw_tokens(logits_RV: Tensor, draws: Draws) -> Tensor:
    """Ids drawn, (S,) int64 on the device. `logits_RV` are fp32 and stay as they are."""
    from kernels.gpu.cut import thresholds
    from kernels.gpu.draw import draw
    from kernels.gpu.shape_logits import shape_logits_

    rows_S = draws.rows_S
    if draws.edits is not None:
        logits_RV = torch.index_select(logits_RV, 0, rows_S)
        shape_logits_(logits_RV, draws.edits)
        rows_S = torch.arange(len(rows_S), device=rows_S.device)
    return draw(logits_RV, rows_S, draws, thresholds(logits_RV, rows_S, draws))


def score_tokens(logits_RV: Tensor, rows_N: Tensor, tokens_N: Tensor, num_likeliest: int) -> Scores:
    """How likely `tokens_N` were by rows `rows_N` of raw logits, and the likeliest ids of those rows."""
    from kernels.gpu.score import score

    return score(logits_RV, rows_N, tokens_N, num_likeliest)
