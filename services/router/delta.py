"""What goes to a client about one choice: new tokens, their text and their log probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from common.core.ids import TokenId
from common.core.logprobs import TokenLogprobs
from common.core.request import FinishReason

TOKEN_COST_BYTES = 64
"""Derived: a small int, its list entry, and its share of the delta, in CPython."""

SCORE_COST_BYTES = 72
"""Derived: an int, a float, and their entries in two tuples."""


@dataclass(slots=True, kw_only=True)
class Delta:
    """New tokens and text of one choice. Text may lag tokens: half characters and possible stop strings wait.

    `text_offset` counts the characters that went out before this text, `offsets` those before each token's own;
    `logprobs` goes with the tokens, where they were asked for. Nobody writes to it; not frozen, because there is one
    per token of every stream, and that would take twice as long.
    """

    choice: int
    first_index: int
    tokens: tuple[TokenId, ...]
    text: str = ""
    text_offset: int = 0
    logprobs: tuple[TokenLogprobs, ...] = ()
    offsets: tuple[int, ...] = ()
    finish: FinishReason | None = None
    stop_string: str | None = None
    stop_token: TokenId | None = None

    @property
    def end(self) -> int:
        """The index after its last token."""
        return self.first_index + len(self.tokens)

    def since(self, index: int) -> "Delta":
        """The same without the tokens before `index`, and without the text before the first that is left."""
        skipped = min(max(0, index - self.first_index), len(self.tokens))
        if not skipped:
            return self
        start = self.offsets[skipped] if skipped < len(self.offsets) else self.text_offset + len(self.text)
        cut = min(max(0, start - self.text_offset), len(self.text))
        return replace(
            self,
            first_index=self.first_index + skipped,
            tokens=self.tokens[skipped:],
            text=self.text[cut:],
            text_offset=self.text_offset + cut,
            logprobs=self.logprobs[skipped:],
            offsets=self.offsets[skipped:],
        )

    @property
    def cost_bytes(self) -> int:
        """What keeping it takes."""
        scores = sum(2 + len(each.top_ids) for each in self.logprobs) if self.logprobs else 0
        return TOKEN_COST_BYTES * (len(self.tokens) + 1) + 4 * len(self.text) + SCORE_COST_BYTES * scores


def joined(parts: Sequence[Delta]) -> Delta:
    """Consecutive deltas of one choice as one."""
    first, last = parts[0], parts[-1]
    if first is last:  # a client that keeps up: nearly every time
        return first
    return Delta(
        choice=last.choice,
        first_index=first.first_index,
        tokens=tuple(token for part in parts for token in part.tokens),
        text="".join(part.text for part in parts),
        text_offset=first.text_offset,
        logprobs=tuple(each for part in parts for each in part.logprobs),
        offsets=tuple(offset for part in parts for offset in part.offsets),
        finish=last.finish,
        stop_string=last.stop_string,
        stop_token=last.stop_token,
    )
