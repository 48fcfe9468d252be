"""A choice's tokens as text: the seam between the exactly-once stream and common/text."""

from dataclasses import dataclass
from typing import Protocol

from common.core.ids import TokenId


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Text that may go out now. `num_tokens` of those pushed count: fewer when a stop string ended the choice."""

    text: str
    num_tokens: int
    stop_string: str | None = None


class Words(Protocol):
    """Text of one choice so far. Holds back half characters and what may become a stop string."""

    def push(self, tokens: tuple[TokenId, ...], *, is_last: bool, stop_token: TokenId | None) -> Piece:
        """Nothing may be pushed after `is_last` or a stop string. A stop token counts, and adds no text."""
        ...
