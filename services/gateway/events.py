"""Server-sent events: how one chunk of JSON is framed."""

import json
from collections.abc import Mapping
from typing import Any

DONE = b"data: [DONE]\n\n"
HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # proxies of nginx's kind would gather events otherwise
}

Chunk = Mapping[str, Any]


def event(chunk: Chunk) -> bytes:
    return b"data: " + json.dumps(chunk, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
