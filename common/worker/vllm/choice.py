"""One choice of an answer as it grows: tokens, log probabilities, and the stop strings that workers do not know."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from common.core.events import TokensEmitted
from common.core.ids import TokenId
from common.core.logprobs import TokenLogprobs
from common.core.request import FinishReason
from common.text.choice import ChoiceText


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What one event added."""

    tokens: tuple[TokenId, ...]
    logprobs: tuple[TokenLogprobs, ...]


@dataclass(slots=True)
class ChoiceAnswer:
    """Writer: the call. `text` only where stop strings were asked for."""

    index: int
    text: ChoiceText | None = None
    tokens: list[TokenId] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    finish: FinishReason | None = None
    stop_token: TokenId | None = None
    stop_string: str | None = None

    @property
    def stopped_by_text(self) -> bool:
        """The worker goes on, and must be told."""
        return self.stop_string is not None

    def take(self, event: TokensEmitted) -> News | None:
        """None for what is known already: decode repeats index 0."""
        fresh = event.first_index + len(event.tokens) - len(self.tokens)
        if self.finish is not None or fresh <= 0:
            return None
        tokens, logprobs = event.tokens[-fresh:], event.logprobs[-fresh:]
        kept = self._scan(tokens, event)
        if self.stop_string is None:
            self.finish, self.stop_token = event.finish, event.stop_token
        else:
            self.finish = FinishReason.STOP
        news = News(tokens=tokens[:kept], logprobs=logprobs[:kept])
        self.tokens += news.tokens
        self.logprobs += news.logprobs
        return news

    def _scan(self, tokens: Sequence[TokenId], event: TokensEmitted) -> int:
        """How many of `tokens` count: fewer when a stop string ended the choice."""
        if self.text is None:
            return len(tokens)
        delta = self.text.push(tokens, is_last=event.finish is not None, stop_token=event.stop_token)
        self.stop_string = delta.stop_string
        return delta.num_tokens
