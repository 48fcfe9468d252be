"""Noise is a pure function of (seed, position, token), and its words look random along each of the three."""

from collections.abc import Callable

import pytest

from common.engine.noise import noise_key, noise_word

BITS = 64


def test_noise_is_pinned_for_ever() -> None:
    """A changed word would change every seeded answer between two releases, and between two workers of one rollout."""
    assert [noise_word(noise_key(seed, position), token) for seed, position, token in PINNED] == list(PINNED.values())


PINNED = {
    (0, 0, 0): 0xA26AB114DB1F32CC,
    (1, 0, 0): 0x26F21C114DE32A44,
    (0, 1, 0): 0xDB4F048CF0287143,
    (0, 0, 1): 0x505A12F8F712377B,
    (2**63 + 5, 4095, 31_999): 0xE8A62A88CE240422,
}


def test_a_seed_counts_modulo_two_to_the_64() -> None:
    assert noise_key(-1, 7) == noise_key(2**64 - 1, 7)


@pytest.mark.parametrize(
    "word",
    [
        lambda i: noise_word(noise_key(i, 3), 5),
        lambda i: noise_word(noise_key(11, i), 5),
        lambda i: noise_word(noise_key(11, 3), i),
    ],
    ids=["seeds", "positions", "tokens"],
)
def test_neighbouring_counters_differ_in_half_of_their_bits(word: Callable[[int], int]) -> None:
    """Mean Hamming distance of 4,000 neighbours: 32 bits, with a standard error of 4 / sqrt(4000) = 0.06."""
    count = 4000
    distance = sum((word(i) ^ word(i + 1)).bit_count() for i in range(count)) / count
    assert abs(distance - BITS / 2) < 6 * 4 / count**0.5


@pytest.mark.parametrize("axis", ["seed", "position", "token"])
def test_every_bit_is_set_half_of_the_time(axis: str) -> None:
    """Each bit over 4,000 counters: a binomial with standard deviation sqrt(1000) = 31.6."""
    count = 4000
    words = [
        noise_word(noise_key(i if axis == "seed" else 1, i if axis == "position" else 1), i if axis == "token" else 1)
        for i in range(count)
    ]
    for bit in range(BITS):
        ones = sum(word >> bit & 1 for word in words)
        assert abs(ones - count / 2) < 5.5 * (count / 4) ** 0.5, f"bit {bit} along {axis}: {ones} of {count}"
