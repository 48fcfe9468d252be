"""The door to randomness: epochs, nonces, minted seeds and ids.

Sampling noise does not come from here: it is a pure function of (seed, position), see common/engine/noise.
"""

import random
import secrets
from typing import Protocol

from common.core.ids import Epoch


class Entropy(Protocol):
    """A source of unpredictable numbers."""

    def bits(self, count: int) -> int:
        """A uniform integer of `count` bits."""
        ...


class SystemEntropy:
    """The operating system's generator: nothing to seed, nothing to predict."""

    def bits(self, count: int) -> int:
        return secrets.randbits(count)


class SeededEntropy:
    """Repeatable randomness for simulations and tests. Never for production: epochs would repeat."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def bits(self, count: int) -> int:
        return self._random.getrandbits(count)


def mint_epoch(entropy: Entropy) -> Epoch:
    """A new incarnation number, never 0: zero on the wire means absent."""
    return Epoch(entropy.bits(63) + 1)


def mint_name(entropy: Entropy, prefix: str) -> str:
    """A unique readable id such as `req-9f86d081884c7d65`."""
    return f"{prefix}-{entropy.bits(64):016x}"
