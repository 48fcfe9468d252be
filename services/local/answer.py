"""One answer gathered from its stream: tokens and text by choice, checked for gaps, with the times a client sees."""

from dataclasses import dataclass, field

from common.core.clock import Clock
from common.core.errors import InternalError
from protos.baton.v1 import generation_pb2, types_pb2

FINISH_NAMES = {
    types_pb2.FINISH_REASON_STOP: "stop",
    types_pb2.FINISH_REASON_LENGTH: "length",
    types_pb2.FINISH_REASON_CANCELLED: "cancelled",
    types_pb2.FINISH_REASON_ERROR: "error",
}


@dataclass(slots=True)
class ChoiceAnswer:
    """One choice so far."""

    tokens: list[int] = field(default_factory=list)
    text: str = ""
    logprobs: list[generation_pb2.ScoredToken] = field(default_factory=list)
    """One for each token, where they were asked for."""
    finish: str = ""
    first_at: float = 0.0
    last_at: float = 0.0


class Answer:
    """Writer: whoever reads the stream. Raises InternalError when a token index is skipped or repeated."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sent_at = clock.monotonic()
        self.request_id = ""
        self.choices: dict[int, ChoiceAnswer] = {}
        self.prompt_logprobs: list[generation_pb2.ScoredToken] = []
        """Of the prompt's tokens from the second on."""
        self.usage = types_pb2.Usage()
        self.stations: tuple[types_pb2.Station, ...] = ()

    def take(self, response: generation_pb2.GenerateResponse) -> str:
        """One message; the text that it adds to the first choice."""
        self.request_id = response.request_id or self.request_id
        if response.HasField("prompt_logprobs"):
            self._take_scores(response.prompt_logprobs)
        for delta in response.deltas:
            self._take_delta(delta)
        if response.HasField("usage"):
            self.usage = response.usage
            self.stations = tuple(response.stations)
        return "".join(delta.text for delta in response.deltas if delta.choice == 0)

    def _take_scores(self, scores: generation_pb2.PromptLogprobs) -> None:
        if scores.first_position != len(self.prompt_logprobs) + 1:
            where = f"{self.request_id}: prompt position {scores.first_position}"
            raise InternalError(message=f"{where} after {len(self.prompt_logprobs)} scores")
        self.prompt_logprobs.extend(scores.tokens)

    def _take_delta(self, delta: generation_pb2.ChoiceDelta) -> None:
        choice = self.choices.setdefault(delta.choice, ChoiceAnswer())
        if delta.token_ids:
            if delta.first_index != len(choice.tokens):
                where = f"{self.request_id}/{delta.choice}"
                raise InternalError(message=f"{where}: index {delta.first_index} after {len(choice.tokens)} tokens")
            choice.last_at = self._clock.monotonic()
            choice.first_at = choice.first_at if choice.tokens else choice.last_at
            choice.tokens.extend(delta.token_ids)
            choice.logprobs.extend(delta.logprobs)
        choice.text += delta.text
        choice.finish = FINISH_NAMES.get(delta.finish_reason, choice.finish)

    def timings(self) -> dict[str, float]:
        """Seconds as this client saw them: to the first token, between tokens of a choice (mean), in all."""
        begun = [choice for choice in self.choices.values() if choice.tokens]
        if not begun:
            return {}
        gaps = sum(len(choice.tokens) - 1 for choice in begun)
        between = sum(choice.last_at - choice.first_at for choice in begun)
        return {
            "ttft_s": round(min(choice.first_at for choice in begun) - self._sent_at, 6),
            "itl_mean_s": round(between / gaps, 6) if gaps else 0.0,
            "total_s": round(max(choice.last_at for choice in begun) - self._sent_at, 6),
        }

    def as_json(self) -> dict[str, object]:
        """What `baton generate --json` prints."""
        return {
            "request_id": self.request_id,
            "choices": [
                {
                    "index": index,
                    "text": choice.text,
                    "token_ids": choice.tokens,
                    "finish_reason": choice.finish,
                    **({"logprobs": list(map(_score, choice.logprobs))} if choice.logprobs else {}),
                }
                for index, choice in sorted(self.choices.items())
            ],
            **({"prompt_logprobs": list(map(_score, self.prompt_logprobs))} if self.prompt_logprobs else {}),
            "usage": {
                "prompt_tokens": self.usage.prompt_tokens,
                "completion_tokens": self.usage.completion_tokens,
                "cached_tokens": self.usage.cached_tokens,
            },
            "timings": self.timings(),
        }


def _score(token: generation_pb2.ScoredToken) -> dict[str, object]:
    """One token with its log probability and the likeliest, as JSON."""
    chosen = token.chosen
    return {
        "id": chosen.token_id,
        "token": chosen.spelling.decode("utf-8", errors="replace"),
        "logprob": round(chosen.logprob, 6),
        "rank": chosen.rank,
        "top": [{"id": other.token_id, "logprob": round(other.logprob, 6)} for other in token.top],
    }
