"""A server with an OpenAI-like /v1/completions that takes token ids: how peers are driven."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from common.core.clock import Clock
from common.core.errors import Unavailable
from services.local.bench.event_stream import Server, post_events
from services.local.bench.target import Piece

PATH = "/v1/completions"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """What a workload must know of the model that a peer serves."""

    vocab_size: int
    max_context: int


class HttpTarget:
    """`body`: what this server wants beside the usual fields; `model` the name it serves under."""

    def __init__(
        self, server: Server, *, model: str, shape: ModelShape, body: Mapping[str, object], clock: Clock
    ) -> None:
        self.name = server.name
        self.vocab_size = shape.vocab_size
        self.max_context = shape.max_context
        self._server = server
        self._usual = {"model": model, "temperature": 0, "stream": True, "ignore_eos": True, **body}
        self._clock = clock

    async def stream(self, prompt: tuple[int, ...], max_tokens: int) -> AsyncIterator[Piece]:
        counted = 0
        body = {**self._usual, "prompt": list(prompt), "max_tokens": max_tokens}
        events = post_events(self._server, PATH, body)
        async with aclosing(events):  # type: ignore[type-var]  # it is an async generator
            async for data in events:
                if data == b"[DONE]":
                    return
                at = self._clock.monotonic()
                total = _count(json.loads(data), counted, self.name)
                if total > counted:
                    yield Piece(at=at, num_tokens=total - counted)
                    counted = total


def _count(event: Mapping[str, object], counted: int, name: str) -> int:
    """Output tokens so far: as the server counts them, or one more for an event that carries text.

    Raises Unavailable for an error in the stream.
    """
    if "error" in event:
        raise Unavailable(message=f"{name} failed: {str(event['error'])[:200]}")
    usage = event.get("usage")
    if isinstance(usage, Mapping) and isinstance(usage.get("completion_tokens"), int):
        return int(usage["completion_tokens"])
    choices = event.get("choices")
    return counted + int(isinstance(choices, list) and bool(choices) and bool(choices[0].get("text")))
