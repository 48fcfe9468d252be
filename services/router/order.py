"""Exactly once, in order: one choice's token indices, whatever the workers' streams did to them."""

from dataclasses import dataclass
from itertools import zip_longest

from common.core.errors import InternalError
from common.core.ids import TokenId
from common.core.logprobs import TokenLogprobs
from common.core.request import FinishReason

MAX_AHEAD = 256
"""Chosen: index 1 may overtake index 0 by a step or two; a gap this long is a bug, not a race."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Why a choice ended, and the stop token where one was drawn."""

    reason: FinishReason
    stop_token: TokenId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Tokens that became deliverable: none missing before them. `ending` comes with the choice's last.

    `logprobs` go with the tokens, None where a worker told none; empty where no worker told any.
    """

    first_index: int
    tokens: tuple[TokenId, ...]
    logprobs: tuple[TokenLogprobs | None, ...] = ()
    ending: Ending | None = None


class TokenOrder:
    """The tokens of one choice from index 0 without gap or repeat. Writer: the request's stream.

    The first value seen for an index wins. Sampling is a function of (seed, position), so another value for it is a
    worker's fault: `conflicts` counts those, and an ending that came with one is not this text's.
    """

    def __init__(self) -> None:
        self.tokens: list[TokenId] = []
        self.ending: Ending | None = None
        self.conflicts = 0
        self._early: dict[int, TokenId] = {}
        self._told: dict[int, TokenLogprobs] = {}
        self._end: tuple[int, Ending] | None = None

    @property
    def next_index(self) -> int:
        return len(self.tokens)

    def take_next(self, index: int, token: TokenId) -> bool:
        """`accept` of one token with nothing else about it, where it is deliverable by itself. False: not taken."""
        if index != len(self.tokens) or self.ending is not None or self._early or self._end is not None:
            return False
        self.tokens.append(token)
        return True

    def accept(
        self,
        first_index: int,
        tokens: tuple[TokenId, ...],
        ending: Ending | None = None,
        logprobs: tuple[TokenLogprobs, ...] = (),
    ) -> Ready | None:
        """Takes consecutive tokens; answers what became deliverable, or None. Nothing is accepted after the end.

        Log probabilities go with the tokens: the first ones told for an index win.

        Raises InternalError when tokens run more than MAX_AHEAD indices ahead of a missing one.
        """
        if self.ending is not None:
            return None
        if first_index > self.next_index + MAX_AHEAD:
            raise InternalError(message=f"token {first_index} arrived while {self.next_index} is missing")
        if first_index == self.next_index and not (logprobs or self._early or self._end):
            return self._append(tokens, ending)
        conflicts = self.conflicts
        for index, (token, told) in enumerate(zip_longest(tokens, logprobs), start=first_index):
            self._note(index, token)
            if told is not None and index >= self.next_index:
                self._told.setdefault(index, told)
        if ending is not None and self._end is None and self.conflicts == conflicts:
            self._end = (first_index + len(tokens), ending)
        return self._release()

    def _append(self, tokens: tuple[TokenId, ...], ending: Ending | None) -> Ready | None:
        """The tokens that come next, with nothing early or told beside them: nearly every time."""
        first_index = self.next_index
        self.tokens.extend(tokens)
        self.ending = ending
        return Ready(first_index=first_index, tokens=tokens, ending=ending) if tokens or ending is not None else None

    def _note(self, index: int, token: TokenId) -> None:
        is_known = index < self.next_index
        known = self.tokens[index] if is_known else self._early.setdefault(index, token)
        self.conflicts += known != token

    def _release(self) -> Ready | None:
        first = self.next_index
        while (token := self._early.pop(self.next_index, None)) is not None:
            if self._end is not None and self.next_index >= self._end[0]:
                break
            self.tokens.append(token)
        if self._end is not None and self._end[0] <= self.next_index:
            self.ending = self._end[1]
            self._early.clear()
        if self.next_index == first and self.ending is None:
            return None
        told = tuple(self._told.pop(index, None) for index in range(first, self.next_index)) if self._told else ()
        return Ready(first_index=first, tokens=tuple(self.tokens[first:]), logprobs=told, ending=self.ending)

    def close(self, ending: Ending) -> None:
        """Ends the choice from this side, such as at a stop string: later tokens are dropped."""
        self.ending = ending
        self._early.clear()
        self._told.clear()
