"""What drawing costs on the device: the sampler alone, timed by events. Part of tests.gpu.decode_step.

What samples ask for is made tensors before: that is the host's work, which goes on beside the device's.
"""

import torch
from torch import Tensor

from common.core.ids import TokenId
from common.core.request import TokenSampling
from common.core.shaping import Shaping
from common.core.step import Sample
from common.engine.device_draws import draws_on_device
from common.engine.sampler import draw_tokens
from kernels import sampling
from kernels.bench.stopwatch import measure
from kernels.dispatch import interpreted

PROMPT = 1024
"""Tokens that the penalties of `shaped` have seen."""

WAYS = {
    "greedy": TokenSampling(temperature=0.0),
    "cut": TokenSampling(temperature=0.8, top_k=50, top_p=0.95, min_p=0.01),
    "shaped": TokenSampling(
        temperature=0.8, top_k=50, top_p=0.95, repetition_penalty=1.1, frequency_penalty=0.2, presence_penalty=0.1
    ),
}


def samples_of(way: str, num_rows: int, vocab: int) -> list[Sample]:
    """One per row, each with a seed of its own."""
    own = WAYS[way]
    prompt = [TokenId(token * 31 % vocab) for token in range(PROMPT)]
    return [
        Sample(seed=row, position=PROMPT, sampling=own, shaping=Shaping.of(own, prompt=prompt, output=prompt[:9]))
        for row in range(num_rows)
    ]


def draws_are_equal(device: torch.device, *, is_interpreted: bool) -> bool:
    """Every way draws on the device what a CPU draws."""
    logits_SV = torch.randn(4, 700, generator=torch.Generator().manual_seed(5)) * 3
    for way in WAYS:
        samples = samples_of(way, len(logits_SV), logits_SV.shape[1])
        expected = draw_tokens(logits_SV, samples)
        if is_interpreted:
            with interpreted():
                found = draw_tokens(logits_SV, samples)
        else:
            found = draw_tokens(logits_SV.to(device), samples)
        if found != expected:
            return False
    return True


def drawing_s(logits_RV: Tensor, repeats: int) -> dict[str, float]:
    """Device seconds of one draw for every row, by way."""
    found = {}
    for way in WAYS:
        samples = samples_of(way, *logits_RV.shape)
        draws = draws_on_device(samples, range(len(samples)), logits_RV.shape[1], logits_RV.device)
        timing = measure(lambda _, draws=draws: sampling.draw_tokens(logits_RV, draws), logits_RV.device, repeats)  # type: ignore[misc]  # bound at once
        found[way] = timing.seconds
    return found
