"""One HTTP request and its answer: the body within limits, a reply or a stream, a client that may leave at any time."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from common.core.aftermath import kept
from common.core.errors import BatonError, MalformedMessage, Reason, Refused
from services.gateway.errors import IS_LATE, IS_PACKED, error_body, error_headers, error_object, status_of, too_large
from services.gateway.events import DONE, HEADERS, event
from services.gateway.leaving import CUT, Cut, cut_short
from services.gateway.timed_protocol import LINGER_BYTES, LINGER_S

JSON_TYPE = "application/json"
MAX_HEADER_S = 1e9
"""Chosen: thirty years: beyond every deadline, and added to a clock it is still told to the microsecond."""


class ClientLeft(Exception):
    """The client closed its connection before it had its answer."""


class Exchange:
    """Writer: the one task that serves it. `headers` are added to whatever is answered."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, max_body_bytes: int, body_s: float) -> None:
        self.asked = Headers(scope=scope)
        self.method: str = scope["method"]
        self.path = _path(scope["path"])
        self.headers: dict[str, str] = {}
        self.head_bytes = sum(len(name) + len(text) + 4 for name, text in scope["headers"])
        self.status = 0
        """Of the answer; 0 before it has begun."""
        self.is_streaming = False
        """Events were sent, and the last one was not."""
        self.failure: BatonError | None = None
        """What ended the answer, were it before or after its beginning."""
        self.names: dict[str, str] = {}
        """What fields of the router's request are called in this body, where bodies differ."""
        self._is_read = "content-length" not in self.asked and "transfer-encoding" not in self.asked
        self._receive = receive
        self._send = send
        self._max_body_bytes = max_body_bytes
        self._body_s = body_s
        self._cut: Cut = scope.get(CUT) or Cut()
        self._is_cut = False

    async def body(self) -> bytes:
        """All of it, once. Raises Refused when it is too large or does not come, MalformedMessage, ClientLeft."""
        told = self.asked.get("content-length", "")
        if told.isdigit() and int(told) > self._max_body_bytes:
            raise too_large(self._max_body_bytes)
        if self.asked.get("content-encoding", "").strip().lower() not in ("", "identity"):
            raise MalformedMessage(
                message="compressed bodies are not accepted: send it as it is", facts=dict(IS_PACKED)
            )
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._body_s):
                async for part in self._parts():
                    size += len(part)
                    if size > self._max_body_bytes:
                        raise too_large(self._max_body_bytes)
                    parts.append(part)
        except TimeoutError as error:
            message = f"the body did not arrive within {self._body_s:g} s"
            raise Refused(message=message, reason=Reason.DEADLINE_EXCEEDED, facts=dict(IS_LATE)) from error
        return b"".join(parts)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Around the work, once the body was read: cancelled, as ClientLeft, when the client goes away, and as
        Unavailable (DRAINING) when the gateway does."""
        task = asyncio.current_task()
        assert task is not None
        has_left = False

        async def watch() -> None:
            nonlocal has_left
            await self._until_disconnect()
            has_left = True
            task.cancel()

        def cut() -> None:
            self._is_cut = True
            task.cancel()

        watcher = asyncio.create_task(watch(), name="client watch")
        try:
            with self._cut.heard(cut):
                yield
        except asyncio.CancelledError:
            if has_left and task.uncancel() == 0:
                raise ClientLeft from None
            self._end_if_cut()
            raise
        finally:
            watcher.cancel()

    async def reply(self, value: object) -> None:
        await self._answer(200, json.dumps(value, ensure_ascii=False).encode(), {"content-type": JSON_TYPE})

    async def fail(self, error: BatonError, *, status: int | None = None) -> None:
        """The error with its own status or another, where nothing was answered yet."""
        self.failure = kept(error)
        headers = {"content-type": JSON_TYPE, **error_headers(error)}
        await self._answer(status or status_of(error), error_body(error, self.names), headers)

    async def nothing(self) -> None:
        """All is said in the headers."""
        await self._answer(204, b"", {})

    async def page(self, body: bytes, content_type: str) -> None:
        await self._answer(200, body, {"content-type": content_type})

    async def stream(self, events: AsyncIterator[bytes]) -> None:
        """Events as they come. An error before the first leaves as itself and keeps its status; a later one becomes
        the last event, and no [DONE] follows it. So does the gateway's own end."""
        first = await anext(events, b"")
        await self._begin(200, HEADERS)
        self.is_streaming = True
        try:
            try:
                await self._more(first)
                async for each in events:
                    await self._more(each)
            except asyncio.CancelledError:
                self._end_if_cut()
                raise
        except BatonError as error:
            await self.break_off(error)
        else:
            await self._end(DONE)

    async def break_off(self, error: BatonError) -> None:
        """The error as the last event of a stream under way."""
        self.failure = kept(error)
        await self._end(event(error_object(error, self.names)))

    async def _end(self, last: bytes) -> None:
        self.is_streaming = False
        await self._send({"type": "http.response.body", "body": last, "more_body": False})

    def _end_if_cut(self) -> None:
        """Raises Unavailable instead of a cancellation that was the gateway's way to say that it leaves."""
        task = asyncio.current_task()
        assert task is not None
        if self._is_cut and task.uncancel() == 0:
            self._is_cut = False
            raise cut_short() from None

    async def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        await self._begin(status, {**headers, "content-length": str(len(body))} if status != 204 else headers)
        is_more = not self._is_read and "expect" not in self.asked  # who waits for leave to send will not send now
        await self._send({"type": "http.response.body", "body": body, "more_body": is_more})
        if is_more:
            await self._drop_rest()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _drop_rest(self) -> None:
        """Some of what the client still sends: see LINGER_BYTES."""
        num_dropped = 0
        with suppress(TimeoutError, ClientLeft):
            async with asyncio.timeout(LINGER_S):
                async for part in self._parts():
                    num_dropped += len(part)
                    if num_dropped > LINGER_BYTES:
                        return

    async def _begin(self, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        if not self._is_read:  # what still comes of the body is nobody's
            headers = {**headers, "connection": "close"}
        raw = [(name.encode("latin-1"), text.encode("latin-1")) for name, text in {**headers, **self.headers}.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def _more(self, body: bytes) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def _parts(self) -> AsyncIterator[bytes]:
        is_more = True
        while is_more:
            message: Message = await self._receive()  # bounded: by the caller's timeout
            if message["type"] == "http.disconnect":
                raise ClientLeft
            yield message.get("body", b"")
            is_more = message.get("more_body", False)
        self._is_read = True

    async def _until_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":  # bounded: cancelled when the work ends
            continue


def number_header(headers: Headers, name: str) -> float | None:
    """A number of seconds from a header, or None where it is absent. Raises MalformedMessage for anything else."""
    text = headers.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= MAX_HEADER_S:
        bound = f"a positive number of seconds, at most {MAX_HEADER_S:.0f}"
        raise MalformedMessage(message=f"the header {name} must be {bound}")
    return value


def as_text(value: Any) -> str:
    """For a header: printable ASCII, bounded, and no space at its ends, which HTTP does not have."""
    return "".join(char for char in str(value)[:256] if 32 <= ord(char) < 127).strip()


def _path(target: str) -> str:
    """Proxies are asked with the whole URL, and some pass it on."""
    is_whole = target.startswith(("http://", "https://"))
    return "/" + target.partition("://")[2].partition("/")[2] if is_whole else target
