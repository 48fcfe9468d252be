"""The plain oracle of sampling: one sample at a time, in fp64, to be read. common/engine/sampler is what serves CPUs.

Legend: V vocabulary.
"""

import torch
from torch import Tensor

GAMMA = 0x9E3779B97F4A7C15
MIXES = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def noise_word(key: int, token: int) -> int:
    """64 bits that depend on the key of the draw and the token alone: the finaliser of SplitMix64."""
    state = (key + (token + 1) * GAMMA) % 2**64
    for shift, factor in MIXES:
        state = (state ^ (state >> shift)) * factor % 2**64
    return state ^ (state >> 31)


def kept(scaled_V: Tensor, log_min_p: float, top_k: int, top_p: float) -> Tensor:
    """is_kept_V: min-p, then top-k, then top-p among what they left; ties with the last one kept stay."""
    scaled_V = scaled_V.double()
    is_kept_V = scaled_V >= scaled_V.max() + log_min_p
    if top_k:
        is_kept_V &= scaled_V >= scaled_V.sort(descending=True).values[min(top_k, len(scaled_V)) - 1]
    if top_p < 1:
        sorted_V = scaled_V.masked_fill(~is_kept_V, float("-inf")).sort(descending=True).values
        shares_V = sorted_V.softmax(dim=0)
        count = max(1, int((shares_V.cumsum(dim=0) - shares_V < top_p).sum()))
        is_kept_V &= scaled_V >= sorted_V[count - 1]
    return is_kept_V


def draw(scaled_V: Tensor, is_kept_V: Tensor, key: int) -> int:
    """The kept token with the largest sum of its scaled logit and its Gumbel noise."""
    tokens = is_kept_V.nonzero()[:, 0].tolist()
    uniforms = torch.tensor([((noise_word(key, token) >> 32) + 0.5) / 2**32 for token in tokens], dtype=torch.float64)
    values = scaled_V[is_kept_V].double().cpu() - (-torch.log1p(-uniforms)).log()
    return int(tokens[int(values.argmax())])
