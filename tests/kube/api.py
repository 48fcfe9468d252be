"""A client of the Kubernetes API, as small as the double needs: JSON over one connection per call, and watches."""

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import h11

CALL_S = 30.0
Object = dict[str, Any]


class ApiError(Exception):
    """An answer that is not 2xx."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """Where the server is, and as whom it is asked."""

    address: tuple[str, int]
    server_name: str
    tls: ssl.SSLContext
    token: str

    async def get(self, path: str) -> Any:
        return await self.call("GET", path)

    async def call(self, method: str, path: str, body: object = None, *, kind: str = "application/json") -> Any:
        """The answer: JSON, or text where it is none. Raises ApiError, OSError, TimeoutError."""
        async with asyncio.timeout(CALL_S), self._exchange(method, path, body, kind) as chunks:
            text = b"".join([chunk async for chunk in chunks])
        try:
            return json.loads(text)
        except ValueError:
            return text.decode(errors="replace")

    async def patch(self, path: str, body: Object) -> Object:
        """A merge patch."""
        return await self.call("PATCH", path, body, kind="application/merge-patch+json")

    async def watch(self, path: str) -> AsyncIterator[tuple[str, Object]]:
        """What is there (as ADDED), then every change: (event, object). Ends when the server ends it."""
        async with self._exchange("GET", f"{path}?watch=1", None, "") as chunks:
            rest = b""
            async for chunk in chunks:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    yield event["type"], event["object"]

    @asynccontextmanager
    async def _exchange(
        self, method: str, path: str, body: object, kind: str
    ) -> AsyncIterator[AsyncGenerator[bytes, None]]:
        """One request; its answer's body in pieces."""
        host, port = self.address
        reader, writer = await asyncio.open_connection(host, port, ssl=self.tls, server_hostname=self.server_name)
        try:
            payload = b"" if body is None else json.dumps(body).encode()
            headers = [("Host", self.server_name), ("Authorization", f"Bearer {self.token}"), ("Connection", "close")]
            if payload:
                headers += [("Content-Type", kind), ("Content-Length", str(len(payload)))]
            connection = h11.Connection(h11.CLIENT)
            writer.write(connection.send(h11.Request(method=method, target=path, headers=headers)) or b"")
            if payload:
                writer.write(connection.send(h11.Data(data=payload)) or b"")
            writer.write(connection.send(h11.EndOfMessage()) or b"")
            async with aclosing(_body(reader, connection)) as chunks:
                yield chunks
        finally:
            writer.transport.abort()


async def _body(reader: asyncio.StreamReader, connection: h11.Connection) -> AsyncGenerator[bytes, None]:
    status, refused = 0, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(1 << 16))  # bounded: by the caller, or a watch
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data) and status >= 300:
            refused += bytes(event.data)
        elif isinstance(event, h11.Data):
            yield bytes(event.data)
        else:
            break
    if status >= 300:
        try:
            message = json.loads(refused)["message"]
        except (ValueError, KeyError, TypeError):
            message = refused.decode(errors="replace")
        raise ApiError(status, message)
