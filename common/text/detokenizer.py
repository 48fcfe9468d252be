"""Text out of tokens as they come. What is given out is never taken back: half a character waits for its rest."""

import codecs

from common.core.ids import TokenId
from common.text.tokenizer import Tokenizer


class Detokenizer:
    """One choice's bytes so far, at most three of them held back. Starts at a character border, whatever came before:
    a prompt that ends inside a character is not repeated."""

    def __init__(self, tokenizer: Tokenizer, *, skip_special_tokens: bool) -> None:
        self._tokenizer = tokenizer
        self._hidden = tokenizer.control.hidden if skip_special_tokens else frozenset[TokenId]()
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._is_between = True
        """Nothing is held back: what comes next begins with a character."""

    def push(self, token: TokenId) -> str:
        """The text that this token completes; empty for a hidden token and for one without spelling."""
        if token in self._hidden:
            return ""
        if self._is_between and (text := self._tokenizer.whole_text(token)) is not None:
            return text  # nearly every time
        text = self._decoder.decode(self._tokenizer.token_bytes(token))
        self._is_between = not self._decoder.getstate()[0]
        return text

    def flush(self) -> str:
        """The end: bytes that never became a character, as a replacement character."""
        return self._decoder.decode(b"", final=True)
