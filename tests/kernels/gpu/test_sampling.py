"""Draws on the device are the CPU sampler's for the same logits; so are shaped logits, bit for bit, and scores."""

import random
import struct
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from common.core.ids import TokenId
from common.core.request import TokenSampling
from common.core.shaping import Shaping
from common.core.step import Sample
from common.engine.device_draws import draws_on_device
from common.engine.sampler import draw_tokens
from common.engine.scoring import score_tokens
from common.engine.shaper import shape_logits
from kernels import sampling as on_device
from kernels.gpu import cut
from kernels.gpu.shape_logits import shape_logits_
from tests.engine.test_sampler import kept_by_definition
from tests.engine.test_shaper import case

CUTS = [
    TokenSampling(temperature=1.0, top_k=1),
    TokenSampling(temperature=0.7, top_p=0.5),
    TokenSampling(temperature=1.5, top_p=0.9, top_k=6),
    TokenSampling(temperature=1.0, top_p=1e-9),
    TokenSampling(temperature=1.0, top_k=100_000),
    TokenSampling(temperature=1.3, min_p=1.0),
    TokenSampling(temperature=1.0, min_p=0.3, top_p=0.6),
    TokenSampling(temperature=2.0, min_p=0.2, top_k=3, top_p=0.9),
    TokenSampling(temperature=2e-5),
    TokenSampling(temperature=0.0, top_k=3, top_p=0.2),
]


def drawn_on_device(logits: Tensor, samples: Sequence[Sample], device: torch.device) -> list[int]:
    """Row i belongs to sample i."""
    draws = draws_on_device(samples, range(len(samples)), logits.shape[1], device)
    tokens: list[int] = on_device.draw_tokens(logits.to(device), draws).tolist()
    return tokens


def kept_on_device(logits: list[float], sampling: TokenSampling, device: torch.device) -> set[int]:
    sample = Sample(seed=0, position=0, sampling=sampling)
    logits_1V = torch.tensor([logits], device=device)
    draws = draws_on_device([sample], [0], len(logits), device)
    threshold = float_of(int(cut.thresholds(logits_1V, draws.rows_S, draws)[0]))
    scaled = (logits_1V / draws.temperatures_S[:, None])[0].tolist()
    return {token for token, value in enumerate(scaled) if value >= threshold}


def float_of(order: int) -> float:
    """kernels/gpu/order in plain words, the other way around."""
    bits = order if order >= 0 else order ^ 0x7FFFFFFF
    return struct.unpack("<f", struct.pack("<i", bits))[0] if order > -(2**31) else float("-inf")


@pytest.mark.parametrize("vocab", [1, 63, 2049])
def test_every_kind_of_draw_is_the_cpus(vocab: int, device: torch.device) -> None:
    """All kinds in one batch over one vocabulary, flat and sharp, some rows of equal logits."""
    torch.manual_seed(vocab)
    chance = random.Random(vocab)
    kinds = [*CUTS, TokenSampling(temperature=1.0), TokenSampling(temperature=0.0)]
    samples = [Sample(seed=chance.getrandbits(64), position=chance.randrange(10_000), sampling=kind) for kind in kinds]
    logits = torch.randn(len(samples), vocab) * torch.tensor([0.1, 5.0]).repeat(len(kinds) // 2)[:, None]
    logits[3] = 1.5
    assert drawn_on_device(logits, samples, device) == draw_tokens(logits, samples)


@pytest.mark.parametrize(
    ("sampling", "least"),
    [
        (TokenSampling(temperature=1.0, top_k=80_000), 2.0),
        (TokenSampling(temperature=1.0, top_p=0.7), 1.0),
    ],
)
def test_the_largest_vocabulary_that_is_served_is_cut(
    sampling: TokenSampling, least: float, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gemma 3's, just above 2^18, a third of it at each of three logits. In large tiles: the interpreter is slow."""
    monkeypatch.setattr(cut, "TILE", 2**16)
    logits_1V = torch.arange(262_208, device=device).remainder(3).float()[None]
    draws = draws_on_device([Sample(seed=0, position=0, sampling=sampling)], [0], logits_1V.shape[1], device)
    assert float_of(int(cut.thresholds(logits_1V, draws.rows_S, draws)[0])) == least


@pytest.mark.parametrize("sampling", [*CUTS[1:3], *CUTS[5:8]], ids=str)
def test_cuts_keep_what_their_definition_keeps(sampling: TokenSampling, device: torch.device) -> None:
    """Logits of few values, negative zero among them, so that ties happen at every cut."""
    chance = random.Random(7)
    for _ in range(2):
        logits = [chance.choice([-0.0, 0.0, -1.5, 2.0, 2.5, 0.5, float("-inf")]) for _ in range(30)]
        assert kept_on_device(logits, sampling, device) == kept_by_definition(logits, sampling)


@pytest.mark.parametrize("top_k", [1, 2, 29, 30, 31])
def test_top_k_of_different_logits_keeps_that_many(top_k: int, device: torch.device) -> None:
    logits = torch.randn(30, generator=torch.Generator().manual_seed(top_k)).tolist()
    kept = kept_on_device(logits, TokenSampling(top_k=top_k), device)
    assert kept == set(sorted(range(30), key=lambda token: -logits[token])[:top_k])


def test_zeros_of_both_signs_tie(device: torch.device) -> None:
    assert kept_on_device([-0.0, -1.0, 0.0, -0.0], TokenSampling(top_k=1), device) == {0, 2, 3}


def test_samples_of_one_row_draw_apart_and_rows_may_be_skipped(device: torch.device) -> None:
    logits = torch.randn(5, 700, generator=torch.Generator().manual_seed(1))
    rows = [3, 3, 3, 0, 4]
    samples = [Sample(seed=seed, position=9, sampling=TokenSampling(top_p=0.95)) for seed in range(5)]
    draws = draws_on_device(samples, rows, 700, device)
    assert on_device.draw_tokens(logits.to(device), draws).tolist() == draw_tokens(logits[rows], samples)


def with_masks(samples: list[Sample], vocab: int) -> list[Sample]:
    """Every third sample gets a constraint's mask, which keeps the even ids."""
    mask = bytes([0b01010101] * (-(-vocab // 8)))
    return [
        Sample(
            seed=each.seed,
            position=each.position,
            sampling=each.sampling,
            banned=(*each.banned, TokenId(vocab + 5)) if number % 2 else (),
            shaping=each.shaping,
            mask=b"" if number % 3 else mask,
        )
        for number, each in enumerate(samples)
    ]


def test_shaped_logits_have_the_bits_of_the_cpus(device: torch.device) -> None:
    cases = [case(seed) for seed in range(30)]
    logits = torch.tensor([own for _sample, own, *_ in cases])
    samples = with_masks([sample for sample, *_ in cases], logits.shape[1])
    edits = draws_on_device(samples, range(30), logits.shape[1], device).edits
    assert edits is not None
    shaped = logits.to(device, copy=True)
    shape_logits_(shaped, edits)
    assert torch.equal(shaped.cpu(), shape_logits(logits, samples))


def test_shaped_draws_leave_the_logits_as_they_were(device: torch.device) -> None:
    cases = [case(seed) for seed in range(8)]
    logits = torch.tensor([own for _sample, own, *_ in cases])
    samples = [sample for sample, *_ in cases]
    draws = draws_on_device(samples, range(8), logits.shape[1], device)
    given = logits.to(device, copy=True)
    assert on_device.draw_tokens(given, draws).tolist() == draw_tokens(logits, samples)
    assert torch.equal(given.cpu(), logits)


def test_seen_tokens_beyond_one_tile_are_all_penalised(device: torch.device) -> None:
    sampling = TokenSampling(temperature=0.0, presence_penalty=100.0)
    shaping = Shaping.of(sampling, prompt=(), output=[TokenId(token) for token in range(599)])
    sample = Sample(seed=0, position=0, sampling=sampling, shaping=shaping)
    assert drawn_on_device(torch.linspace(5, 0, 600)[None], [sample], device) == [599]


@pytest.mark.parametrize("vocab", [7, 4097])
def test_scores_are_the_cpus(vocab: int, device: torch.device) -> None:
    """Logits of few values: equal ones share a rank and are told by id."""
    torch.manual_seed(vocab)
    logits = torch.randint(-9, 9, (4, vocab)) / 2
    rows, tokens = [2, 0, 3], [5, 0, vocab - 1]
    expected = score_tokens(logits[rows], [TokenId(token) for token in tokens], [20] * 3)
    scores = on_device.score_tokens(
        logits.to(device), torch.tensor(rows, device=device), torch.tensor(tokens, device=device), 20
    )
    assert scores.ranks_N.tolist() == [each.rank for each in expected]
    assert scores.likeliest_NK.tolist() == [list(each.top_ids) for each in expected]
    assert scores.logprobs_N.tolist() == pytest.approx([each.logprob for each in expected], abs=1e-5)
    for told, each in zip(scores.likeliest_logprobs_NK.tolist(), expected, strict=True):
        assert told == pytest.approx(each.top_logprobs, abs=1e-5)
