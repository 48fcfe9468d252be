"""The state of one constraint after some output."""

from llguidance import LLMatcher

from common.core.errors import InternalError
from common.core.ids import TokenId


class GrammarRule:
    """What the engine asks before and after every draw: see TokenRule there. Not thread-safe: one holder at a time.

    The first mask is computed off the loop, where the rule is made; each later one in the step that needs it, which
    takes 20 to 40 microseconds.
    """

    __slots__ = ("_mask", "_matcher")

    def __init__(self, matcher: LLMatcher, mask: bytes | None = None) -> None:
        self._matcher = matcher
        self._mask = mask

    @property
    def is_over(self) -> bool:
        return self._matcher.is_stopped() and not self._matcher.is_error()

    def mask(self) -> bytes:
        if self._mask is None:
            mask = self._matcher.compute_bitmask()
            if self._matcher.is_error() or not any(mask):
                raise InternalError(message=f"the constraint cannot go on: {self._matcher.stop_reason()}")
            self._mask = mask
        return self._mask

    def accept(self, token: TokenId) -> bool:
        self._mask = None
        if self._matcher.is_error() or (self._matcher.is_stopped() and not self._may_end_with(token)):
            return False
        return self._matcher.consume_token(token) and not self._matcher.is_error()

    def _may_end_with(self, token: TokenId) -> bool:
        """A grammar that is over takes the end of sequence and nothing else."""
        mask = self._matcher.compute_bitmask()
        return bool(mask[token // 8] >> token % 8 & 1) and not self._matcher.is_error()

    def fork(self) -> "GrammarRule":
        return GrammarRule(self._matcher.deep_copy(), self._mask)
