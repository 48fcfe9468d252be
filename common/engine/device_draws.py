"""What samples ask for, as tensors on the device that draws: one copy each way in a step, and no waiting between.

Legend: S samples, M masks, W words of 32 bits, N numbers in lists end to end.
"""

import math
from array import array
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from common.core.shaping import Shaping
from common.core.step import Sample
from common.engine.host_copy import to_device
from common.engine.noise import noise_key, signed
from kernels.draws import Draws, Edits, TokenLists

MASK_BITS = 32


def draws_on_device(samples: Sequence[Sample], rows: Sequence[int], vocab: int, device: torch.device) -> Draws:
    """Samples that draw from `rows` of the logits; `vocab` ids each."""
    random = [not sample.sampling.is_greedy for sample in samples]
    own = [sample.sampling for sample in samples]
    min_ps = [each.min_p if is_on else 0.0 for each, is_on in zip(own, random, strict=True)]
    top_ks = [each.top_k if is_on else 0 for each, is_on in zip(own, random, strict=True)]
    top_ps = [each.top_p if is_on else 1.0 for each, is_on in zip(own, random, strict=True)]
    keys = [signed(noise_key(sample.seed, sample.position)) for sample in samples]
    temperatures = [each.temperature if is_on else 1.0 for each, is_on in zip(own, random, strict=True)]
    return Draws(
        rows_S=to_device(torch.tensor(rows, dtype=torch.int64), device),
        temperatures_S=to_device(torch.tensor(temperatures, dtype=torch.float32), device),
        is_random_S=to_device(torch.tensor(random, dtype=torch.int32), device),
        keys_S=to_device(torch.tensor(keys, dtype=torch.int64), device),
        log_min_p_S=_doubles([math.log(each) if each > 0 else -math.inf for each in min_ps], device),
        top_k_S=to_device(torch.tensor(top_ks, dtype=torch.int32), device),
        top_p_S=_doubles(top_ps, device),
        has_cuts=any(min_ps) or any(top_ks) or min(top_ps, default=1.0) < 1.0,
        edits=_edits(samples, vocab, device),
    )


def _edits(samples: Sequence[Sample], vocab: int, device: torch.device) -> Edits | None:
    """None where no sample asks for any."""
    if not any(sample.shaping is not None or sample.banned or sample.mask for sample in samples):
        return None
    shapings = [sample.shaping for sample in samples]
    masks_MW, mask_rows, allowed_rows = _masks(samples, vocab)
    seen = [shaping.seen if shaping else () for shaping in shapings]
    samplings = [sample.sampling for sample in samples]
    return Edits(
        masks_MW=None if masks_MW is None else to_device(masks_MW, device),
        mask_rows_S=to_device(torch.tensor(mask_rows, dtype=torch.int32), device),
        allowed_rows_S=to_device(torch.tensor(allowed_rows, dtype=torch.int32), device),
        allowed=_lists([shaping.allowed if shaping else () for shaping in shapings], device),
        banned=_lists([sample.banned for sample in samples], device),
        biased=_lists([shaping.biased if shaping else () for shaping in shapings], device),
        biases_N=to_device(_joined_biases([shaping for shaping in shapings if shaping]), device),
        seen=_lists(seen, device),
        counts_N=to_device(_joined([shaping.counts for shaping in shapings if shaping]), device),
        repetitions_S=to_device(torch.tensor([each.repetition_penalty for each in samplings]), device),
        frequencies_S=to_device(torch.tensor([each.frequency_penalty for each in samplings]), device),
        presences_S=to_device(torch.tensor([each.presence_penalty for each in samplings]), device),
    )


def _masks(samples: Sequence[Sample], vocab: int) -> tuple[Tensor | None, list[int], list[int]]:
    """Masks given as bits, then an empty one per sample with allowed ids; and the rows of both kinds."""
    given = [sample.mask for sample in samples if sample.mask]
    mask_rows = _numbered([bool(sample.mask) for sample in samples], 0)
    allowed_rows = _numbered([_has_allowed(sample.shaping) for sample in samples], len(given))
    num_rows = len(given) + sum(row >= 0 for row in allowed_rows)
    if num_rows == 0:
        return None, mask_rows, allowed_rows
    words_MW = np.zeros((num_rows, -(-vocab // MASK_BITS)), dtype=np.int32)
    bytes_MB = words_MW.view(np.uint8)
    for row, mask in enumerate(given):
        num_bytes = min(len(mask), bytes_MB.shape[1])
        bytes_MB[row, :num_bytes] = np.frombuffer(mask, dtype=np.uint8, count=num_bytes)
    return torch.from_numpy(words_MW), mask_rows, allowed_rows


def _has_allowed(shaping: Shaping | None) -> bool:
    return shaping is not None and len(shaping.allowed) > 0


def _numbered(facts: Sequence[bool], first: int) -> list[int]:
    """first, first + 1, ... where a fact holds; -1 where it does not."""
    rows = []
    for fact in facts:
        rows.append(first if fact else -1)
        first += fact
    return rows


def _lists(lists: Sequence[Sequence[int]], device: torch.device) -> TokenLists:
    starts = np.cumsum([0, *map(len, lists)], dtype=np.int32)
    return TokenLists(starts_S1=to_device(torch.from_numpy(starts), device), tokens_N=to_device(_joined(lists), device))


def _joined(lists: Sequence[Sequence[int]]) -> Tensor:
    """All ids end to end, int64. A copy: an array that a tensor looks into could not grow."""
    joined = array("q")
    for each in lists:
        joined.extend(each)
    return torch.frombuffer(joined, dtype=torch.int64) if joined else torch.empty(0, dtype=torch.int64)


def _joined_biases(shapings: Sequence[Shaping]) -> Tensor:
    joined = array("f")
    for shaping in shapings:
        joined.extend(shaping.biases)
    return torch.frombuffer(joined, dtype=torch.float32) if joined else torch.empty(0)


def _doubles(values: Sequence[float], device: torch.device) -> Tensor:
    return to_device(torch.tensor(values, dtype=torch.float64), device)
