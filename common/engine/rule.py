"""What may come next, as an executor and a batch see it. The grammar behind it is none of the engine's business."""

from collections.abc import Collection
from typing import Protocol

from common.core.ids import TokenId


class TokenRule(Protocol):
    """The state of one constraint after some output: a function of the tokens it accepted. Writer: the step loop."""

    @property
    def is_over(self) -> bool:
        """Nothing but the end of sequence may follow, or it came already."""
        ...

    def mask(self) -> bytes:
        """One bit per token id, the lowest first: set where the token may come next. Never all zero.

        Raises InternalError when the grammar cannot say: the row must fail, its answer would be a guess.
        """
        ...

    def accept(self, token: TokenId) -> bool:
        """One more output token. False, and no longer usable, where the grammar refuses it."""
        ...

    def fork(self) -> "TokenRule":
        """For a choice that goes its own way from here."""
        ...


def leaves_any(mask: bytes, banned: Collection[TokenId]) -> bool:
    """Whether a token that is not banned may come next."""
    num_lost = sum(mask[token >> 3] >> (token & 7) & 1 for token in set(banned) if token >> 3 < len(mask))
    return int.from_bytes(mask, "little").bit_count() > num_lost
