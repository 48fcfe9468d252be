"""Log probabilities in OpenAI's two shapes: parallel lists for completions, a list of objects for chat."""

import codecs
import math
from collections.abc import Iterable, Sequence
from typing import Any

from protos.baton.v1 import generation_pb2

FLOOR = -9999.0
"""JSON has no minus infinity: a token that could not have been drawn is written so, as OpenAI does."""

Tokens = Sequence[generation_pb2.ScoredToken]


class Offsets:
    """Counts the characters of what is spelled token by token; a character may begin in one and end in the next."""

    def __init__(self) -> None:
        self.num_chars = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, spelling: bytes) -> None:
        self.num_chars += len(self._decoder.decode(spelling))


def as_lists(tokens: Iterable[generation_pb2.ScoredToken], *, shift: int = 0) -> dict[str, list[Any]]:
    """For completions. `shift`: characters before the choice's own text, where the prompt is echoed."""
    lists: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for token in tokens:
        append(lists, token, offset=token.text_offset + shift)
    return lists


def append(
    lists: dict[str, list[Any]], token: generation_pb2.ScoredToken, *, offset: int, is_first: bool = False
) -> None:
    """One more token. `is_first`: nothing came before it, so it has no probability."""
    lists["tokens"].append(spelled(token.chosen))
    lists["token_logprobs"].append(None if is_first else finite(token.chosen.logprob))
    lists["top_logprobs"].append(None if is_first else _top(token))
    lists["text_offset"].append(offset)


def as_objects(tokens: Tokens, *, num_top: int) -> list[dict[str, Any]]:
    """For chat: `num_top` alternatives each."""
    return [
        {**_score(token.chosen), "top_logprobs": [_score(score) for score in token.top[:num_top]]} for token in tokens
    ]


def spelled(score: generation_pb2.TokenScore) -> str:
    """What it writes; a part of a character shows as its bytes."""
    try:
        return score.spelling.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in score.spelling)


def finite(logprob: float) -> float:
    return logprob if math.isfinite(logprob) else FLOOR


def _top(token: generation_pb2.ScoredToken) -> dict[str, float]:
    scores = {spelled(score): finite(score.logprob) for score in token.top}
    scores.setdefault(spelled(token.chosen), finite(token.chosen.logprob))
    return scores


def _score(score: generation_pb2.TokenScore) -> dict[str, Any]:
    return {"token": spelled(score), "logprob": finite(score.logprob), "bytes": list(score.spelling)}
