"""A choice's tokens as the text its client sees: detokenizer, stop strings and min_tokens together.

Resuming is replay: a new ChoiceText that was given the tokens already emitted goes on exactly as the old one would.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from common.core.ids import TokenId
from common.text.detokenizer import Detokenizer
from common.text.stops import StopScanner
from common.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta:
    """Text that may go out now. `num_tokens` of those pushed count: fewer when a stop string ended the choice."""

    text: str
    num_tokens: int
    stop_string: str | None = None


class ChoiceText:
    """Text of one choice so far. Writer: the task that answers the client."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        stops: Sequence[str] = (),
        min_tokens: int = 0,
        skip_special_tokens: bool = True,
        include_stop: bool = False,
    ) -> None:
        self._detokenizer = Detokenizer(tokenizer, skip_special_tokens=skip_special_tokens)
        self._scanner = StopScanner(stops, include_stop=include_stop)
        self._min_tokens = min_tokens
        self._num_tokens = 0
        self._is_over = False

    def push(self, tokens: Sequence[TokenId], *, is_last: bool = False, stop_token: TokenId | None = None) -> TextDelta:
        """The text that `tokens` make ready. Nothing may be pushed after `is_last` or a stop string.

        A stop token counts and adds no text; it is the last of `tokens`. A stop string that completes before it wins.
        """
        assert not self._is_over, "tokens after the end of a choice"
        assert stop_token is None or (is_last and tokens[-1] == stop_token), f"stop token {stop_token} is not the last"
        pieces: list[str] = []
        for index, token in enumerate(tokens):
            self._num_tokens += 1
            is_silent = stop_token is not None and index == len(tokens) - 1
            text = "" if is_silent else self._detokenizer.push(token)
            stop = self._scan(text, pieces)
            if stop is not None:
                return TextDelta(text="".join(pieces), num_tokens=index + 1, stop_string=stop)
        if not is_last:
            return TextDelta(text="".join(pieces), num_tokens=len(tokens))
        self._is_over = True
        stop = self._scan(self._detokenizer.flush(), pieces)
        if stop is None:
            pieces.append(self._scanner.flush())
        return TextDelta(text="".join(pieces), num_tokens=len(tokens), stop_string=stop)

    def flush(self) -> TextDelta:
        """The end without another token: cancelled, or out of time."""
        return self.push((), is_last=True)

    def _scan(self, text: str, pieces: list[str]) -> str | None:
        scanned = self._scanner.push(text, may_stop=self._num_tokens >= self._min_tokens)
        pieces.append(scanned.text)
        self._is_over = self._is_over or scanned.stop is not None
        return scanned.stop
