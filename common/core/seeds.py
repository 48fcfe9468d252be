"""The seeds of a request's choices: the same wherever a request is made into work."""

from hashlib import blake2b

from common.core.request import Choice

SEED_BITS = 64


def mint_choices(seed: int, count: int) -> tuple[Choice, ...]:
    """One seed per choice. Choice 0 keeps the request's own, so that n = 1 and the first of n = 4 say the same."""
    return tuple(Choice(index=index, seed=_choice_seed(seed, index)) for index in range(count))


def _choice_seed(seed: int, index: int) -> int:
    wrapped = seed % (1 << SEED_BITS)
    if index == 0:
        return wrapped
    parts = wrapped.to_bytes(8, "little") + index.to_bytes(4, "little")
    return int.from_bytes(blake2b(parts, digest_size=8, person=b"baton choice").digest(), "little")
