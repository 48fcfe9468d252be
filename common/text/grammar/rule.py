"""The state of one constraint after some output."""

from llguidance import LLMatcher

from common.core.errors import InternalError
from common.core.ids import TokenId


class GrammarRule:
    """What the engine asks before and after every draw: see TokenRule there. Not thread-safe: one holder at a time.

    The first mask is computed off the loop, where the rule is made; each later one in the step that needs it, which
    takes 20 to 40 microseconds.
    """

    __slots__ = ("_is_over", "_mask", "_matcher")

    def __init__(self, matcher: LLMatcher, mask: bytes | None = None) -> None:
        self._matcher = matcher
        self._mask = mask
        self._is_over: bool = matcher.is_stopped() and not matcher.is_error()

    @property
    def is_over(self) -> bool:
        return self._is_over

    def mask(self) -> bytes:
        if self._mask is None:
            mask = self._matcher.compute_bitmask()
            if self._matcher.is_error() or not any(mask):
                raise InternalError(message=f"the constraint cannot go on: {self._matcher.stop_reason()}")
            self._mask = mask
        return self._mask

    def accept(self, token: TokenId) -> bool:
        self._mask = None
        if self._is_over and not self._may_end_with(token):
            return False
        is_fine = self._matcher.consume_token(token)  # false for ever after an error
        self._is_over = is_fine and self._matcher.is_stopped()
        return is_fine

    def _may_end_with(self, token: TokenId) -> bool:
        """A grammar that is over takes the end of sequence and nothing else."""
        mask = self._matcher.compute_bitmask()
        return bool(mask[token // 8] >> token % 8 & 1) and not self._matcher.is_error()

    def fork(self) -> "GrammarRule":
        return GrammarRule(self._matcher.deep_copy(), self._mask)
