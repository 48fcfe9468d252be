"""What a choice may not draw next, as far as tokens can tell. Pure."""

from collections.abc import Collection, Sequence

from common.core.ids import TokenId
from common.core.request import TokenSampling


class Bans:
    """The rules of one request. Made once per sequence; its answer is a function of the output alone.

    min_tokens bans whatever would end the choice; a bad word bans its last id where the others come before it. Where a
    constraint says when an answer may end, ignore_eos bans the end as well.
    """

    __slots__ = ("_allowed", "_enders", "_min_tokens", "_singles", "_words")

    def __init__(self, sampling: TokenSampling, eos_ids: Collection[TokenId], *, is_constrained: bool = False) -> None:
        self._allowed = frozenset(sampling.allowed_ids)
        self._min_tokens = sampling.min_tokens
        self._enders = frozenset((*eos_ids, *sampling.stop_token_ids)) if sampling.min_tokens else frozenset()
        singles = {word[0] for word in sampling.bad_words if len(word) == 1}
        if is_constrained and sampling.ignore_eos:
            singles.update(eos_ids)
        self._singles = frozenset(singles)
        self._words: dict[TokenId, list[tuple[TokenId, ...]]] = {}
        for word in sampling.bad_words:
            if len(word) > 1:
                self._words.setdefault(word[-2], []).append(word)

    @classmethod
    def of(
        cls, sampling: TokenSampling, eos_ids: Collection[TokenId], *, is_constrained: bool = False
    ) -> "Bans | None":
        """None where nothing is ever banned."""
        if sampling.min_tokens or sampling.bad_words or (is_constrained and sampling.ignore_eos):
            return cls(sampling, eos_ids, is_constrained=is_constrained)
        return None

    @property
    def reads_output(self) -> bool:
        """Whether the answer depends on which tokens were drawn, not only on how many."""
        return bool(self._words)

    def after(self, tokens: Sequence[TokenId], *, num_output: int) -> tuple[TokenId, ...]:
        """Ids that may not follow `tokens`, the last `num_output` of which are output.

        Where nothing allowed would be left, the bans give way: a token must be drawn.
        """
        banned = set(self._singles)
        if num_output < self._min_tokens:
            banned |= self._enders
        if self._words and num_output:
            for word in self._words.get(tokens[-1], ()):
                start = len(word) - 1
                if start <= num_output and tuple(tokens[-start:]) == word[:-1]:
                    banned.add(word[-1])
        if self._allowed and self._allowed <= banned:
            return ()
        return tuple(sorted(banned))
