"""POST /v1/chat/completions: a conversation in, its next turn out, whole or as events."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from protos.baton.v1 import generation_pb2
from services.gateway.answer import Answer
from services.gateway.echo import Echo, prompt_fields
from services.gateway.events import Chunks
from services.gateway.frame import Frame
from services.gateway.logprobs import as_objects
from services.gateway.routers import Model
from services.gateway.schema.chat import ChatBody
from services.gateway.turn import MintId, Turn, make_reader

KIND = "chat.completion"
CHUNK_KIND = "chat.completion.chunk"


@dataclass(slots=True, kw_only=True)
class _Message:
    """One choice's message that is gathered."""

    content: str | None = None
    reasoning: str | None = None
    calls: list[dict[str, Any]] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)

    def add(self, part: dict[str, Any]) -> None:
        if "content" in part:
            self.content = (self.content or "") + part["content"]
        if "reasoning_content" in part:
            self.reasoning = (self.reasoning or "") + part["reasoning_content"]
        for call in part.get("tool_calls", ()):
            self.calls.append({name: value for name, value in call.items() if name != "index"})

    def shown(self) -> dict[str, Any]:
        content = self.content if self.calls or self.reasoning else self.content or ""
        shown: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if self.reasoning is not None:
            shown["reasoning_content"] = self.reasoning
        if self.calls:
            shown["tool_calls"] = self.calls
        return shown


class Chat:
    """The shapes of one exchange's answer."""

    def __init__(self, body: ChatBody, answer: Answer, frame: Frame, model: Model, *, mint_id: MintId) -> None:
        self._body = body
        self._answer = answer
        self._frame = frame
        self._echo = Echo(wants_scores=body.prompt_logprobs is not None)
        max_calls = 1 if body.parallel_tool_calls is False else None
        self._turns = [
            Turn(reader=make_reader(body, model), mint_id=mint_id, max_calls=max_calls)
            for _ in range(answer.num_choices)
        ]

    async def whole(self) -> dict[str, Any]:
        """One object with every choice."""
        messages = [_Message() for _ in self._turns]
        async with aclosing(self._answer.pieces()) as pieces:
            async for piece in pieces:
                self._echo.take(piece.response)
                for delta in piece.response.deltas:
                    message = messages[delta.choice]
                    for part in self._turns[delta.choice].read(delta):
                        message.add(part)
                    message.token_ids += delta.token_ids
                    message.logprobs += self._scores(delta)
        shown = [self._choice(index, message) for index, message in enumerate(messages)]
        return self._frame.whole(shown, self._answer) | prompt_fields(self._body, self._echo)

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The first of each choice says whose turn it is, its last one why it ended. Those of one message together."""
        chunks = Chunks(self._frame, self._answer)
        greeted: set[int] = set()
        async with aclosing(self._answer.pieces()) as pieces:
            async for piece in pieces:
                parts: list[dict[str, Any]] = []
                for delta in piece.response.deltas:
                    if delta.choice not in greeted:
                        greeted.add(delta.choice)
                        parts.append(_part(delta.choice, {"role": "assistant", "content": ""}))
                    parts += self._parts(delta)
                if parts:
                    yield chunks.of(parts)
        if last := chunks.last():
            yield last

    def _parts(self, delta: generation_pb2.ChoiceDelta) -> list[dict[str, Any]]:
        """What one message of the router becomes. Empty where it only adds to what is held back."""
        turn = self._turns[delta.choice]
        parts = [_part(delta.choice, part) for part in turn.read(delta)]
        scores = self._scores(delta)
        wants_ids = bool(self._body.return_token_ids and delta.token_ids)
        if not parts and (scores or wants_ids or turn.finish is not None):
            parts.append(_part(delta.choice, {}))
        if scores:
            parts[0]["logprobs"] = {"content": scores}
        if wants_ids:
            parts[0]["token_ids"] = list(delta.token_ids)
        if turn.finish is not None:
            parts[-1] |= {"finish_reason": turn.finish, "stop_reason": turn.stop}
        return parts

    def _scores(self, delta: generation_pb2.ChoiceDelta) -> list[dict[str, Any]]:
        return as_objects(delta.logprobs, num_top=self._body.top_logprobs or 0)

    def _choice(self, index: int, message: _Message) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "index": index,
            "message": message.shown(),
            "logprobs": {"content": message.logprobs, "refusal": None} if self._body.logprobs else None,
            "finish_reason": self._turns[index].finish,
            "stop_reason": self._turns[index].stop,
        }
        if self._body.return_token_ids:
            shown["token_ids"] = message.token_ids
        return shown


def _part(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
