"""What a request's options make of its logits, before anything is drawn.

    constraint -> allowed ids -> bans (bad words, min_tokens) -> logit bias -> repetition -> frequency and presence

Each step is elementwise, over all samples at once: a row's result is the same alone and in any batch.

    constraint    every logit that it does not let come becomes -inf
    allowed ids   every other logit becomes -inf
    bans          -inf
    bias          logit + bias
    repetition    logit / penalty where it is positive, logit * penalty elsewhere; tokens of prompt and output
    frequency     logit - penalty * times in the output
    presence      logit - penalty, where the token is in the output at all

Legend: S samples, V vocabulary, N (sample, token) pairs, end to end.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from common.core.ids import TokenId
from common.core.shaping import Shaping
from common.core.step import Sample

if TYPE_CHECKING:
    from array import array


def shape_logits(logits_SV: Tensor, samples: Sequence[Sample]) -> Tensor:
    """The logits to draw from: the same tensor where no sample asks for anything, else a new one."""
    shaped = [(row, sample.shaping) for row, sample in enumerate(samples) if sample.shaping is not None]
    banned = [(row, sample.banned) for row, sample in enumerate(samples) if sample.banned]
    masked = [(row, sample.mask) for row, sample in enumerate(samples) if sample.mask]
    if not (shaped or banned or masked):
        return logits_SV
    logits_SV = logits_SV.clone()
    _keep_masked(logits_SV, masked)
    _keep_allowed(logits_SV, [(row, shaping) for row, shaping in shaped if shaping.allowed])
    _ban(logits_SV, banned)
    _add_biases(logits_SV, [(row, shaping) for row, shaping in shaped if shaping.biased])
    _penalize(logits_SV, [(row, shaping) for row, shaping in shaped if shaping.seen])
    return logits_SV


def _keep_masked(logits_SV: Tensor, rows: list[tuple[int, bytes]]) -> None:
    if not rows:
        return
    bytes_RB = np.frombuffer(b"".join(mask for _row, mask in rows), dtype=np.uint8).reshape(len(rows), -1)
    # numpy's way takes a tenth of the time of shifting bits in tensors.
    bits_RV = np.unpackbits(bytes_RB, axis=1, count=logits_SV.shape[1], bitorder="little")
    is_out_RV = torch.from_numpy(bits_RV == 0).to(logits_SV.device)
    if len(rows) == logits_SV.shape[0]:  # the usual step of a constrained service
        logits_SV.masked_fill_(is_out_RV, float("-inf"))
        return
    places = [row for row, _mask in rows]
    logits_SV[places] = logits_SV[places].masked_fill(is_out_RV, float("-inf"))


def _keep_allowed(logits_SV: Tensor, rows: list[tuple[int, Shaping]]) -> None:
    if not rows:
        return
    flat = logits_SV.view(-1)
    pairs_N = _pairs(logits_SV, [(row, shaping.allowed) for row, shaping in rows])
    kept_N = flat[pairs_N]
    logits_SV[[row for row, _shaping in rows]] = float("-inf")
    flat[pairs_N] = kept_N


def _ban(logits_SV: Tensor, rows: list[tuple[int, tuple[TokenId, ...]]]) -> None:
    """Ids that the model does not have cannot come anyway: a tokenizer, or a list of ends, may know more of them."""
    width = logits_SV.shape[1]
    pairs = [row * width + token for row, tokens in rows for token in tokens if token < width]
    if pairs:
        logits_SV.view(-1)[torch.tensor(pairs, device=logits_SV.device)] = float("-inf")


def _add_biases(logits_SV: Tensor, rows: list[tuple[int, Shaping]]) -> None:
    if not rows:
        return
    pairs_N = _pairs(logits_SV, [(row, shaping.biased) for row, shaping in rows])
    biases_N = torch.cat([_tensor(shaping.biases, torch.float32) for _row, shaping in rows]).to(logits_SV.device)
    flat = logits_SV.view(-1)
    flat[pairs_N] = flat[pairs_N] + biases_N


def _penalize(logits_SV: Tensor, rows: list[tuple[int, Shaping]]) -> None:
    if not rows:
        return
    device = logits_SV.device
    lengths = torch.tensor([len(shaping.seen) for _row, shaping in rows])

    def spread(values: list[float]) -> Tensor:
        return torch.tensor(values).repeat_interleave(lengths).to(device)

    repetition_N = spread([shaping.sampling.repetition_penalty for _row, shaping in rows])
    frequency_N = spread([shaping.sampling.frequency_penalty for _row, shaping in rows])
    presence_N = spread([shaping.sampling.presence_penalty for _row, shaping in rows])
    counts_N = torch.cat([_tensor(shaping.counts, torch.int64) for _row, shaping in rows]).to(device)
    pairs_N = _pairs(logits_SV, [(row, shaping.seen) for row, shaping in rows])
    flat = logits_SV.view(-1)
    values_N = flat[pairs_N]
    values_N = torch.where(values_N > 0, values_N / repetition_N, values_N * repetition_N)
    flat[pairs_N] = values_N - frequency_N * counts_N - presence_N * (counts_N > 0)


def _pairs(logits_SV: Tensor, rows: list[tuple[int, "array[int]"]]) -> Tensor:
    """Places of (row, token) pairs in the flattened logits."""
    width = logits_SV.shape[1]
    return torch.cat([_tensor(tokens, torch.int64) + row * width for row, tokens in rows]).to(logits_SV.device)


def _tensor(values: "array[int] | array[float]", dtype: torch.dtype) -> Tensor:
    """A copy: an array that a tensor looks into could not grow."""
    return torch.frombuffer(values, dtype=dtype).clone()
