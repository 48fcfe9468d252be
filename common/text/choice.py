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
    """Text that may go out now. `num_tokens` of those pushed count: fewer when a stop string ended the choice.

    `offsets` say for each of these where its own text begins, in characters of the choice's whole text. Text may lag
    tokens, so an offset may lie ahead of what has gone out; what a stop string cut off is counted as well.
    """

    text: str
    num_tokens: int
    stop_string: str | None = None
    offsets: tuple[int, ...] = ()


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
        self.has_stops = bool(stops)
        """Whether its text may end it, and be held back until that is known."""
        self._min_tokens = min_tokens
        self._include_stop = include_stop
        self._num_tokens = 0
        self._num_chars = 0
        self._is_over = False

    def push(self, tokens: Sequence[TokenId], *, is_last: bool = False, stop_token: TokenId | None = None) -> TextDelta:
        """The text that `tokens` make ready. Nothing may be pushed after `is_last` or a stop string.

        A stop token counts and adds no text, unless stops are included; it is the last of `tokens`. A stop string that
        completes before it wins.
        """
        assert not self._is_over, "tokens after the end of a choice"
        assert stop_token is None or (is_last and tokens[-1] == stop_token), f"stop token {stop_token} is not the last"
        if len(tokens) == 1 and not (is_last or self.has_stops):
            offset = self._num_chars
            return TextDelta(text=self.push_next(tokens[0]), num_tokens=1, offsets=(offset,))
        pieces: list[str] = []
        offsets: list[int] = []
        for index, token in enumerate(tokens):
            self._num_tokens += 1
            offsets.append(self._num_chars)
            is_silent = stop_token is not None and index == len(tokens) - 1 and not self._include_stop
            text = "" if is_silent else self._detokenizer.push(token)
            self._num_chars += len(text)
            stop = self._scan(text, pieces)
            if stop is not None:
                return _delta(pieces, offsets, stop)
        if not is_last:
            return _delta(pieces, offsets, None)
        self._is_over = True
        stop = self._scan(self._detokenizer.flush(), pieces)
        if stop is None:
            pieces.append(self._scanner.flush())
        return _delta(pieces, offsets, stop)

    def push_next(self, token: TokenId) -> str:
        """The text of one token that is not the last, of a choice without stop strings: nearly every one."""
        assert not self.has_stops, "a stop string may begin here"
        assert not self._is_over, "tokens after the end of a choice"
        text = self._detokenizer.push(token)
        self._num_tokens += 1
        self._num_chars += len(text)
        return text

    def flush(self) -> TextDelta:
        """The end without another token: cancelled, or out of time."""
        return self.push((), is_last=True)

    def _scan(self, text: str, pieces: list[str]) -> str | None:
        scanned = self._scanner.push(text, may_stop=self._num_tokens >= self._min_tokens)
        pieces.append(scanned.text)
        self._is_over = self._is_over or scanned.stop is not None
        return scanned.stop


def _delta(pieces: list[str], offsets: list[int], stop: str | None) -> TextDelta:
    return TextDelta(text="".join(pieces), num_tokens=len(offsets), stop_string=stop, offsets=tuple(offsets))
