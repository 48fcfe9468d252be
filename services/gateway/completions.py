"""POST /v1/completions: prompts in, their continuations out, whole or as events."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from protos.baton.v1 import generation_pb2
from services.gateway.answer import Answer, Piece
from services.gateway.echo import Echo, prompt_fields, wants_prompt
from services.gateway.events import Chunks
from services.gateway.finish import finish_reason, stop_reason
from services.gateway.frame import Frame
from services.gateway.logprobs import as_lists
from services.gateway.schema.completion import CompletionBody

KIND = "text_completion"


@dataclass(slots=True, kw_only=True)
class _Choice:
    """One choice that is gathered."""

    texts: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: dict[str, list[Any]] = field(default_factory=lambda: as_lists(()))
    finish: str | None = None
    stop: str | int | None = None


class Completions:
    """The shapes of one exchange's answer."""

    def __init__(self, body: CompletionBody, answer: Answer, frame: Frame) -> None:
        self._body = body
        self._answer = answer
        self._frame = frame
        self._echoed = [0] * answer.num_choices
        """Characters of the prompt that stand before each choice's own text."""
        self._echoes: dict[int, Echo] = {}

    async def whole(self) -> dict[str, Any]:
        """One object with every choice."""
        choices = [_Choice() for _ in range(self._answer.num_choices)]
        async for chunk in self._chunks():
            for part in chunk:
                choice = choices[part["index"]]
                choice.texts.append(part["text"])
                choice.token_ids += part.get("token_ids", ())
                for name, values in (part["logprobs"] or {}).items():
                    choice.logprobs[name] += values
                choice.finish = part["finish_reason"] or choice.finish
                choice.stop = choice.stop if part["stop_reason"] is None else part["stop_reason"]
        shown = [self._shown(index, choice) for index, choice in enumerate(choices)]
        return self._frame.whole(shown, self._answer)

    async def events(self) -> AsyncGenerator[bytes, None]:
        """One per choice and message; those of one message together."""
        chunks = Chunks(self._frame, self._answer)
        async with aclosing(self._chunks()) as messages:
            async for parts in messages:
                if parts:
                    yield chunks.of(parts)
        if last := chunks.last():
            yield last

    async def _chunks(self) -> AsyncGenerator[list[dict[str, Any]], None]:
        async with aclosing(self._answer.pieces()) as pieces:
            async for piece in pieces:
                yield [*self._echo(piece), *(self._part(delta) for delta in piece.response.deltas)]

    def _echo(self, piece: Piece) -> list[dict[str, Any]]:
        """The prompt before each of its choices, as far as it was asked for."""
        body, wants_scores = self._body, bool(self._body.echo) and self._body.logprobs is not None
        if not body.echo and not wants_prompt(body):
            return []
        if (echo := self._echoes.get(piece.prompt)) is None:
            echo = Echo(wants_scores=wants_scores or body.prompt_logprobs is not None)
            self._echoes[piece.prompt] = echo
        if not echo.take(piece.response):
            return []
        text, lists = echo.text if body.echo else "", echo.lists() if wants_scores else None
        shown, per_prompt = prompt_fields(body, echo), self._answer.choices_per_prompt
        parts = []
        for index in range(piece.prompt * per_prompt, (piece.prompt + 1) * per_prompt):
            self._echoed[index] = len(text)
            part = {"index": index, "text": text, "logprobs": lists, "finish_reason": None, "stop_reason": None}
            parts.append(part | shown)
        return parts

    def _part(self, delta: generation_pb2.ChoiceDelta) -> dict[str, Any]:
        wants_scores = self._body.logprobs is not None
        part = {
            "index": delta.choice,
            "text": delta.text,
            "logprobs": as_lists(delta.logprobs, shift=self._echoed[delta.choice]) if wants_scores else None,
            "finish_reason": finish_reason(delta),
            "stop_reason": stop_reason(delta),
        }
        if self._body.return_token_ids:
            part["token_ids"] = list(delta.token_ids)
        return part

    def _shown(self, index: int, choice: _Choice) -> dict[str, Any]:
        shown = {
            "index": index,
            "text": "".join(choice.texts),
            "logprobs": choice.logprobs if self._body.logprobs is not None else None,
            "finish_reason": choice.finish,
            "stop_reason": choice.stop,
        }
        if self._body.return_token_ids:
            shown["token_ids"] = choice.token_ids
        if (echo := self._echoes.get(index // self._answer.choices_per_prompt)) is not None:
            shown |= prompt_fields(self._body, echo)
        return shown
