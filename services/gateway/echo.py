"""The prompt as it comes back: its text, its token ids, and how likely it was."""

from dataclasses import dataclass, field
from typing import Any

from protos.baton.v1 import generation_pb2
from services.gateway.logprobs import Offsets, append, as_lists, finite, spelled
from services.gateway.schema.sampling import SamplingBody


@dataclass(slots=True, kw_only=True)
class Echo:
    """Of one prompt. Writer: the answer's iteration.

    Gathered until it is whole, because only then it is known what its first token spells; the router sends all of it
    before the first token of the answer, and bounds it.
    """

    wants_scores: bool
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    is_whole: bool = False
    _scores: list[generation_pb2.ScoredToken] = field(default_factory=list)

    def take(self, response: generation_pb2.GenerateResponse) -> bool:
        """Whether it became whole with this message."""
        if self.is_whole:
            return False
        if response.HasField("prompt"):
            self.text, self.token_ids = response.prompt.text, list(response.prompt.token_ids)
        self._scores += response.prompt_logprobs.tokens
        self.is_whole = bool(self.token_ids) and (not self.wants_scores or len(self._scores) >= len(self.token_ids) - 1)
        return self.is_whole

    def lists(self) -> dict[str, list[Any]]:
        """As completions spell scores. The first token has none: nothing came before it. Offsets count characters."""
        lists, offsets = as_lists(()), Offsets()
        rest = b"".join([token.chosen.spelling for token in self._scores])
        whole = self.text.encode()
        first = generation_pb2.TokenScore(spelling=whole[: len(whole) - len(rest)] if whole.endswith(rest) else b"")
        append(lists, generation_pb2.ScoredToken(chosen=first), offset=0, is_first=True)
        offsets.add(first.spelling)
        for token in self._scores:
            append(lists, token, offset=offsets.num_chars)
            offsets.add(token.chosen.spelling)
        return lists

    def by_id(self) -> list[dict[str, Any] | None]:
        """As vLLM spells `prompt_logprobs`: per position the candidates by token id, and none for the first."""
        return [None, *(_candidates(token) for token in self._scores)]


def prompt_fields(body: SamplingBody, echo: Echo) -> dict[str, Any]:
    """What of the prompt a body asked for beside its text."""
    shown: dict[str, Any] = {}
    if body.return_token_ids:
        shown["prompt_token_ids"] = echo.token_ids
    if body.prompt_logprobs is not None:
        shown["prompt_logprobs"] = echo.by_id()
    return shown


def wants_prompt(body: SamplingBody) -> bool:
    """Whether the router is to tell the prompt, though its text may not be shown."""
    return bool(body.return_token_ids) or body.prompt_logprobs is not None


def _candidates(token: generation_pb2.ScoredToken) -> dict[str, Any]:
    return {
        str(score.token_id): {"logprob": finite(score.logprob), "rank": score.rank, "decoded_token": spelled(score)}
        for score in (token.chosen, *token.top)
    }
