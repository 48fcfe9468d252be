"""Goal: all options together follow the order that docs/sampling.md states. Method: random requests, each with any of
them, against the plain definitions of what options do, of what cuts keep, and of the noise, one after the other.
"""

import math
import random
from dataclasses import replace

import torch

from common.core.ids import TokenId
from common.core.shaping import Shaping
from common.core.step import Sample
from common.engine.noise import noise_key, noise_word
from common.engine.sampler import draw_tokens
from tests.engine.test_sampler import kept_by_definition
from tests.engine.test_shaper import case, plain


def cut(seed: int) -> tuple[Sample, list[float], list[float]]:
    """A request of test_shaper with cuts as well: its sample, its logits, and what its options make of them."""
    drawn, logits, banned, prompt, output = case(seed)
    chance = random.Random(f"cuts {seed}")
    sampling = replace(
        drawn.sampling,
        top_p=chance.choice([1.0, 0.95, 0.5, 0.1]),
        top_k=chance.choice([0, 1, 5, 20]),
        min_p=chance.choice([0.0, 0.01, 0.2]),
    )
    shaping = Shaping.of(sampling, prompt=ids(prompt), output=ids(output))
    return replace(drawn, sampling=sampling, shaping=shaping), logits, plain(logits, sampling, banned, prompt, output)


def ids(tokens: list[int]) -> list[TokenId]:
    return [TokenId(token) for token in tokens]


def drawn_by_definition(sample: Sample, shaped: list[float]) -> int:
    if sample.sampling.is_greedy:
        return max(range(len(shaped)), key=lambda token: (shaped[token], -token))
    key = noise_key(sample.seed, sample.position)

    def noisy(token: int) -> float:
        uniform = ((noise_word(key, token) >> 32) + 0.5) / 2**32
        return shaped[token] / sample.sampling.temperature - math.log(-math.log1p(-uniform))

    return max(sorted(kept_by_definition(shaped, sample.sampling)), key=noisy)


def test_all_options_together_draw_what_their_order_says() -> None:
    cases = [cut(seed) for seed in range(400)]
    rows = torch.tensor([logits for _sample, logits, _shaped in cases])
    together = draw_tokens(rows, [sample for sample, *_ in cases])
    for seed, (sample, _logits, shaped) in enumerate(cases):
        assert together[seed] == drawn_by_definition(sample, shaped), f"seed {seed}: {sample.sampling}"
