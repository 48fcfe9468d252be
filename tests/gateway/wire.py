"""HTTP/1.1 as bytes: what a client really gets, to the last line break."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

ANSWER_S = 10.0


@dataclass(frozen=True)
class HttpAnswer:
    """One answer, its body without the framing of chunks."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]

    @property
    def events(self) -> list[str]:
        """The data of each event; the framing is checked."""
        assert self.body.endswith(b"\n\n")
        parts = self.body.decode().split("\n\n")[:-1]
        assert all(part.startswith("data: ") and "\n" not in part for part in parts)
        return [part.removeprefix("data: ") for part in parts]

    @property
    def chunks(self) -> list[Any]:
        """The events but [DONE], which must be the last if it is there."""
        return [json.loads(data) for data in self.events if data != "[DONE]"]


async def ask(address: str, method: str, path: str, *, body: object = None, headers: Sequence[str] = ()) -> HttpAnswer:
    """One request over a connection of its own. `body`: bytes as they are, anything else as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
    lines = [f"{method} {path} HTTP/1.1", f"host: {address}", "connection: close", *headers]
    if raw:
        lines += ["content-type: application/json", f"content-length: {len(raw)}"]
    return await exchange(address, "\r\n".join(lines).encode() + b"\r\n\r\n" + raw)


async def exchange(address: str, request: bytes) -> HttpAnswer:
    """Sends bytes and reads until the server closes."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        async with asyncio.timeout(ANSWER_S):
            return parse(await reader.read(-1))
    finally:
        writer.close()


def parse(raw: bytes) -> HttpAnswer:
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = _unchunked(body)
    return HttpAnswer(int(first.split(" ")[1]), headers, body)


def _unchunked(body: bytes) -> bytes:
    whole = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return whole
        whole, body = whole + body[:length], body[length + 2 :]
