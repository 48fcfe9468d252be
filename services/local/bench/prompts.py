"""Prompts of random token ids: no two share a page, so that no cache helps unless a workload wants it to."""

from common.core.entropy import Entropy

FIRST_TOKEN = 300
"""Chosen: above bytes and special tokens of the usual vocabularies."""


class Prompts:
    """Fresh prompts for one vocabulary."""

    def __init__(self, entropy: Entropy, vocab_size: int) -> None:
        self._entropy = entropy
        self._first = min(FIRST_TOKEN, vocab_size // 2)
        self._count = vocab_size - self._first - 4
        assert self._count > 0, f"a vocabulary of {vocab_size} has no token to spare"

    def fresh(self, num_tokens: int) -> tuple[int, ...]:
        """Ids that nobody has seen before, each below the vocabulary's last few."""
        return tuple(self._first + self._entropy.bits(32) % self._count for _ in range(num_tokens))
