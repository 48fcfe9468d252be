"""Drawing tokens: the distribution, the cuts, and that a draw depends on its own sample alone."""

import math
import random
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.core.ids import TokenId
from common.core.request import TokenSampling
from common.core.step import Sample
from common.engine.noise import noise_key, noise_word
from common.engine.sampler import Cuts, draw_tokens, kept_tokens, noise_words

GREEDY = TokenSampling(temperature=0.0)
PLAIN = TokenSampling(temperature=1.0)


def sample(position: int = 0, seed: int = 0, sampling: TokenSampling = PLAIN, banned: tuple[int, ...] = ()) -> Sample:
    return Sample(seed=seed, position=position, sampling=sampling, banned=tuple(TokenId(token) for token in banned))


def signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word


def kept_by_definition(logits: list[float], sampling: TokenSampling) -> set[int]:
    """min-p, then top-k, then top-p, token by token in double precision: the plain reference."""
    scaled = [logit / sampling.temperature for logit in logits]
    kept = set(range(len(scaled)))
    if sampling.min_p:
        kept = {token for token in kept if scaled[token] >= max(scaled) + math.log(sampling.min_p)}
    if sampling.top_k:
        smallest = sorted(scaled, reverse=True)[: sampling.top_k][-1]
        kept = {token for token in kept if scaled[token] >= smallest}
    if sampling.top_p < 1:
        largest = max(scaled)
        total = sum(math.exp(scaled[token] - largest) for token in kept)
        before, smallest = 0.0, largest
        for token in sorted(kept, key=lambda token: -scaled[token]):
            if before >= sampling.top_p:
                break
            smallest = scaled[token]
            before += math.exp(scaled[token] - largest) / total
        kept = {token for token in kept if scaled[token] >= smallest}
    return kept


def drawn_set(logits: list[float], sampling: TokenSampling, num_draws: int = 3000) -> set[int]:
    rows = torch.tensor(logits).expand(num_draws, -1)
    return set(draw_tokens(rows, [sample(position, sampling=sampling) for position in range(num_draws)]))


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32), st.lists(st.integers(0, 2**31), min_size=1, max_size=5))
def test_vectorised_noise_is_the_defined_noise_bit_by_bit(seed: int, position: int, tokens: list[int]) -> None:
    key = noise_key(seed, position)
    words = noise_words(torch.tensor([signed(key)]), torch.tensor([tokens]))
    assert words.tolist() == [[signed(noise_word(key, token)) for token in tokens]]


def test_greedy_takes_the_largest_logit_and_the_lowest_id_on_a_tie() -> None:
    rows = torch.tensor([[0.0, 3.0, 3.0, 1.0], [5.0, 0.0, 5.0, 5.0], [0.0, 0.0, 0.0, 9.0]])
    assert draw_tokens(rows, [sample(sampling=GREEDY)] * 3) == [1, 0, 3]


@pytest.mark.parametrize("vocab", [5, 300])
def test_draws_follow_the_softmax(vocab: int) -> None:
    """Chi-square over 40,000 positions against softmax(logits / temperature), in about ten bins."""
    torch.manual_seed(vocab)
    logits, count = torch.randn(vocab) * 2, 40_000
    sampling = TokenSampling(temperature=0.8)
    expected = (logits.double() / sampling.temperature).softmax(dim=0)
    seen = Counter[int]()
    for first in range(0, count, 4000):
        samples = [sample(position, seed=9, sampling=sampling) for position in range(first, first + 4000)]
        seen.update(draw_tokens(logits.expand(4000, -1), samples))
    bin_of = (expected.cumsum(dim=0) * 10).clamp(max=9.999).long().tolist()
    observed_bins, expected_bins = Counter[int](), dict.fromkeys(bin_of, 0.0)
    for token in range(vocab):
        observed_bins[bin_of[token]] += seen[token]
        expected_bins[bin_of[token]] += float(expected[token]) * count
    chi_square = sum((observed_bins[b] - expected_bins[b]) ** 2 / expected_bins[b] for b in expected_bins)
    assert chi_square < 40, f"{chi_square:.1f} with {len(expected_bins) - 1} degrees of freedom; 0.001 % is beyond 39"


def test_draws_at_neighbouring_positions_and_of_neighbouring_seeds_are_independent() -> None:
    """Pairs of draws from four equal tokens fill the sixteen cells evenly: chi-square with 15 degrees of freedom."""
    rows = torch.zeros(8000, 4)
    by_position = draw_tokens(rows, [sample(position, seed=1) for position in range(8000)])
    by_seed = draw_tokens(rows, [sample(5, seed=seed) for seed in range(8000)])
    for draws in (by_position, by_seed):
        cells = Counter(4 * first + second for first, second in zip(draws[0::2], draws[1::2], strict=True))
        chi_square = sum((cells[cell] - 250) ** 2 / 250 for cell in range(16))
        assert chi_square < 50, f"{chi_square:.1f}: {cells}"


def test_choices_of_one_prompt_draw_apart() -> None:
    rows = torch.zeros(64, 1000)
    assert len(set(draw_tokens(rows, [sample(7, seed=seed) for seed in range(64)]))) > 50


@pytest.mark.parametrize(
    "sampling",
    [
        TokenSampling(temperature=1.0, top_k=1),
        TokenSampling(temperature=1.0, top_k=3),
        TokenSampling(temperature=0.7, top_p=0.5),
        TokenSampling(temperature=1.5, top_p=0.9, top_k=6),
        TokenSampling(temperature=1.0, top_p=1e-9),
        TokenSampling(temperature=1.0, top_k=50),
        TokenSampling(temperature=1.0, min_p=0.4),
        TokenSampling(temperature=1.3, min_p=1.0),
        TokenSampling(temperature=1.0, min_p=0.3, top_p=0.6),
        TokenSampling(temperature=2.0, min_p=0.2, top_k=3, top_p=0.9),
    ],
    ids=str,
)
def test_exactly_the_kept_tokens_are_drawn(sampling: TokenSampling) -> None:
    logits = [2.0, 0.5, 1.9, 1.0, 1.2, -0.5, 1.0, 0.3, 1.7, 0.9]
    assert drawn_set(logits, sampling) == kept_by_definition(logits, sampling)


@settings(max_examples=150)
@given(
    st.lists(st.floats(-8, 8, width=16), min_size=2, max_size=40),
    st.floats(0.1, 3.0),
    st.integers(0, 45),
    st.floats(0.01, 1.0),
    st.sampled_from([0.0, 0.05, 0.3, 0.9]),
)
def test_cuts_equal_the_plain_definition(
    logits: list[float], temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    """Logits of 16 bits, so that ties happen; a cut within 1e-6 of a cumulative probability may fall either way."""
    sampling = TokenSampling(temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p)
    scaled = torch.tensor([logits]) / temperature
    ordered, tokens = scaled.sort(dim=1, descending=True)
    is_kept, _ = kept_tokens(ordered, scaled.logsumexp(1), Cuts.of([sampling], ordered.device))
    kept = set(tokens[is_kept].tolist())
    near = [
        kept_by_definition(logits, replace(sampling, top_p=min(1.0, top_p + shift), min_p=min_p * (1 + tilt)))
        for shift in (-1e-6, 0, 1e-6)
        for tilt in (-1e-6, 0, 1e-6)
    ]
    assert kept in near


@pytest.mark.parametrize(
    "sampling",
    [TokenSampling(top_p=0.999), TokenSampling(top_k=4500, top_p=0.99), TokenSampling(min_p=1e-9, top_p=0.999)],
    ids=str,
)
def test_a_flat_distribution_needs_more_than_the_first_candidates(sampling: TokenSampling) -> None:
    """5,000 tokens of nearly equal logits: more than the candidates that are looked at before all are kept."""
    torch.manual_seed(4)
    logits = (torch.randn(5000) * 0.1).tolist()
    kept = kept_by_definition(logits, sampling)
    drawn = drawn_set(logits, sampling, num_draws=600)
    assert drawn <= kept
    assert len(drawn) > 400


def test_tokens_that_tie_with_the_last_kept_one_are_kept() -> None:
    assert drawn_set([1.0, 1.0, 1.0, 0.0], TokenSampling(top_k=2)) == {0, 1, 2}
    assert drawn_set([1.0] * 600, TokenSampling(top_k=2), num_draws=6000) > set(range(300, 320))


def test_a_draw_does_not_depend_on_the_samples_beside_it() -> None:
    """Every kind of sampling in one batch, then each alone."""
    chosen = random.Random(5)
    torch.manual_seed(5)
    rows = torch.randn(40, 700) * 3
    kinds = [GREEDY, PLAIN, TokenSampling(top_p=0.8), TokenSampling(top_k=5), TokenSampling(top_p=0.9999)]
    samples = [sample(row, chosen.getrandbits(63), chosen.choice(kinds), banned=(row,)) for row in range(40)]
    together = draw_tokens(rows, samples)
    assert together == [draw_tokens(rows[row : row + 1], samples[row : row + 1])[0] for row in range(40)]


def test_noise_in_the_last_bits_of_logits_changes_no_draw() -> None:
    """What another device may do to logits: one part in a million. A draw at a near-tie could differ; none of these."""
    torch.manual_seed(6)
    rows = torch.randn(2000, 50)
    samples = [sample(position, seed=3, sampling=TokenSampling(top_p=0.9)) for position in range(2000)]
    assert draw_tokens(rows, samples) == draw_tokens(rows * (1 + 1e-6), samples)


@pytest.mark.parametrize("sampling", [GREEDY, PLAIN, TokenSampling(top_k=2), TokenSampling(top_p=0.5)], ids=str)
def test_banned_tokens_are_never_drawn(sampling: TokenSampling) -> None:
    rows = torch.tensor([9.0, 8.0, 1.0, 0.5, 0.0]).expand(500, -1)
    before = rows.clone()
    drawn = draw_tokens(rows, [sample(n, sampling=sampling, banned=(0, 1)) for n in range(500)])
    assert not {0, 1} & set(drawn)
    assert torch.equal(rows, before)


def test_a_very_small_temperature_is_nearly_greedy_and_finite() -> None:
    torch.manual_seed(8)
    rows = torch.randn(200, 100) * 20
    drawn = draw_tokens(rows, [sample(n, sampling=TokenSampling(temperature=2e-5)) for n in range(200)])
    assert drawn == rows.argmax(dim=1).tolist()
