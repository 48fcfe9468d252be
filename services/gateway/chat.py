"""POST /v1/chat/completions: a conversation in, its next turn out, whole or as events."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from protos.baton.v1 import generation_pb2
from services.gateway.answer import Answer
from services.gateway.finish import finish_reason, stop_reason
from services.gateway.frame import Frame
from services.gateway.logprobs import as_objects
from services.gateway.schema.chat import ChatBody

KIND = "chat.completion"
CHUNK_KIND = "chat.completion.chunk"


@dataclass(slots=True, kw_only=True)
class _Choice:
    """One choice that is gathered."""

    texts: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    finish: str | None = None
    stop: str | int | None = None


class Chat:
    """The shapes of one exchange's answer."""

    def __init__(self, body: ChatBody, answer: Answer, frame: Frame) -> None:
        self._body = body
        self._answer = answer
        self._frame = frame

    async def whole(self) -> dict[str, Any]:
        """One object with every choice."""
        choices = [_Choice() for _ in range(self._answer.num_choices)]
        async with aclosing(self._deltas()) as deltas:
            async for delta in deltas:
                choice = choices[delta.choice]
                choice.texts.append(delta.text)
                choice.token_ids += delta.token_ids
                choice.logprobs += self._scores(delta)
                choice.finish = finish_reason(delta) or choice.finish
                choice.stop = choice.stop if (stop := stop_reason(delta)) is None else stop
        shown = [self._shown(index, choice) for index, choice in enumerate(choices)]
        return self._frame.whole(shown, self._answer)

    async def chunks(self) -> AsyncGenerator[dict[str, Any], None]:
        """One object per choice and message; the first of each choice says whose turn it is."""
        tally = self._answer.tally
        greeted: set[int] = set()
        async with aclosing(self._deltas()) as deltas:
            async for delta in deltas:
                if delta.choice not in greeted:
                    greeted.add(delta.choice)
                    opening = {"role": "assistant", "content": ""}
                    yield self._frame.chunk([_part(delta.choice, opening)], tally)
                yield self._frame.chunk([self._part(delta)], tally)
        if self._frame.wants_last:
            yield self._frame.last(self._answer)

    async def _deltas(self) -> AsyncGenerator[generation_pb2.ChoiceDelta, None]:
        async with aclosing(self._answer.pieces()) as pieces:
            async for piece in pieces:
                for delta in piece.response.deltas:
                    yield delta

    def _part(self, delta: generation_pb2.ChoiceDelta) -> dict[str, Any]:
        part = _part(delta.choice, {"content": delta.text} if delta.text else {})
        if self._body.logprobs:
            part["logprobs"] = {"content": self._scores(delta)}
        if (finish := finish_reason(delta)) is not None:
            part["finish_reason"] = finish
            part["stop_reason"] = stop_reason(delta)
        if self._body.return_token_ids:
            part["token_ids"] = list(delta.token_ids)
        return part

    def _scores(self, delta: generation_pb2.ChoiceDelta) -> list[dict[str, Any]]:
        return as_objects(delta.logprobs, num_top=self._body.top_logprobs or 0)

    def _shown(self, index: int, choice: _Choice) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "index": index,
            "message": {"role": "assistant", "content": "".join(choice.texts), "refusal": None},
            "logprobs": {"content": choice.logprobs, "refusal": None} if self._body.logprobs else None,
            "finish_reason": choice.finish,
            "stop_reason": choice.stop,
        }
        if self._body.return_token_ids:
            shown["token_ids"] = choice.token_ids
        return shown


def _part(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
