"""Counter-based noise: 64 bits that depend on (seed, position, token) alone, not on history, batch, worker or device.

    word(seed, position, token) = mix(key(seed, position) + (token + 1) * GAMMA)      modulo 2^64
    key(seed, position)         = mix(mix(seed + GAMMA) + (position + 1) * STRIDE)

`mix` is the finaliser of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014): it
turns counters into words that pass the usual batteries. This file is the definition in plain integers; the sampler
holds its vectorised twin, and a test compares the two bit by bit.
"""

from typing import NewType

NoiseKey = NewType("NoiseKey", int)
"""Everything that the noise of one draw depends on, 64 bits."""

GAMMA = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, odd: SplitMix64's increment.
STRIDE = 0xD1342543DE82EF95  # Another odd constant of full period, so that positions and tokens step differently.
MIX_FIRST = 0xBF58476D1CE4E5B9
MIX_SECOND = 0x94D049BB133111EB
WORD = 2**64


def mix(state: int) -> int:
    """A bijection of 64-bit words in which every input bit moves about half of the output bits."""
    state = (state ^ (state >> 30)) * MIX_FIRST % WORD
    state = (state ^ (state >> 27)) * MIX_SECOND % WORD
    return state ^ (state >> 31)


def noise_key(seed: int, position: int) -> NoiseKey:
    """Key of the draw at `position` of the context; any integer is a seed, taken modulo 2^64."""
    return NoiseKey(mix((mix((seed + GAMMA) % WORD) + (position + 1) * STRIDE) % WORD))


def noise_word(key: NoiseKey, token: int) -> int:
    """The noise of one token in one draw, 64 bits."""
    return mix((key + (token + 1) * GAMMA) % WORD)


def signed(word: int) -> int:
    """The int64 with the same bits as an unsigned word: what a tensor holds."""
    return word - WORD if word >= WORD // 2 else word
