"""Server-sent events: how chunks of JSON are framed. One is written per token and stream, so each must cost little."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from services.gateway.answer import Answer
from services.gateway.frame import Frame

DONE = b"data: [DONE]\n\n"
HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # proxies of nginx's kind would gather events otherwise
}

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
"""One for all: json.dumps would make another for every chunk."""


def event(value: Mapping[str, Any]) -> bytes:
    return f"data: {_ENCODER.encode(value)}\n\n".encode()


class Chunks:
    """The events of one stream. What stands around the choices is the same in each, so it is spelled once."""

    def __init__(self, frame: Frame, answer: Answer) -> None:
        self._frame = frame
        self._answer = answer
        head = _ENCODER.encode(frame.head(frame.chunk_kind))
        self._opening = f'data: {head[:-1]},"choices":['
        self._closing = "]%s}\n\n" % (',"usage":null' if frame.wants_usage else "")

    def of(self, parts: Iterable[Mapping[str, Any]]) -> bytes:
        """One event per choice's part. Together, so that one message of a router costs one write."""
        opening, closing, encode = self._opening, self._closing, _ENCODER.encode
        if self._frame.wants_running_usage:
            closing = f'],"usage":{encode(self._answer.tally.usage())}}}\n\n'
        return "".join([f"{opening}{encode(part)}{closing}" for part in parts]).encode()

    def last(self) -> bytes:
        """After the last choice's end: usage, and the waterfall where it was asked for. Empty where neither was."""
        return event(self._frame.last(self._answer)) if self._frame.wants_last else b""
