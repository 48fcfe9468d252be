"""The observability listener: /metrics, /healthz, /readyz over plain HTTP. No request data passes here.

Small on purpose: GET and HEAD, one answer per connection, bounded head, bounded connections, a deadline on everything.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self

from common.observe.health import LoopProgress, Readiness
from common.observe.listener import address_of, listen
from common.observe.registry import CONTENT_TYPE, Metrics

MAX_HEAD_BYTES = 8192
MAX_CONNECTIONS = 32
DEADLINE_S = 5.0
"""Chosen: probes and scrapers send a few hundred bytes, are a handful, and get their answer in milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One answer."""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = "application/json"


Show = Callable[[], Awaitable[Page]]


class HealthServer:
    """Serves pages by path. An async context manager: listening inside, closed and its connections ended outside.

    Of MAX_CONNECTIONS the oldest that has not asked yet gives way to a new one: nobody who only connects keeps a
    question for our health out. Entering raises StartupError when the address cannot be had.
    """

    def __init__(self, pages: Mapping[str, Show], *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._pages = dict(pages)
        self._host = host
        self._wanted_port = port
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._silent: dict[asyncio.Task[None], None] = {}
        """Connections that have not asked yet, the oldest first."""

    @property
    def port(self) -> int:
        """The port really bound."""
        assert self._server is not None, "the listener is not open"
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def address(self) -> str:
        assert self._server is not None, "the listener is not open"
        return address_of(self._server.sockets[0])

    async def __aenter__(self) -> Self:
        listener = listen(self._host, self._wanted_port, backlog=MAX_CONNECTIONS)
        self._server = await asyncio.start_server(
            self._accept, sock=listener, limit=MAX_HEAD_BYTES, backlog=MAX_CONNECTIONS
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)  # bounded: cancelled above

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if self._has_room():
                self._connections.add(task)
                self._silent[task] = None
                async with asyncio.timeout(DEADLINE_S):
                    await self._serve(reader, writer)
        except (TimeoutError, ConnectionError):
            writer.transport.abort()
        finally:
            self._connections.discard(task)
            self._silent.pop(task, None)
            writer.close()

    def _has_room(self) -> bool:
        if len(self._connections) < MAX_CONNECTIONS:
            return True
        if not self._silent:
            return False
        oldest = next(iter(self._silent))
        del self._silent[oldest]
        self._connections.discard(oldest)
        oldest.cancel()
        return True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return
        except asyncio.LimitOverrunError:
            head = b""
        task = asyncio.current_task()
        assert task is not None
        self._silent.pop(task, None)
        method, page = await self._answer(head)
        writer.write(_encode(page, with_body=method != "HEAD"))
        await writer.drain()

    async def _answer(self, head: bytes) -> tuple[str, Page]:
        """The method and the page for a request's head."""
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return "", _plain(HTTPStatus.BAD_REQUEST)
        method, path = words[0], words[1].partition("?")[0]
        if method not in ("GET", "HEAD"):
            return method, _plain(HTTPStatus.METHOD_NOT_ALLOWED)
        show = self._pages.get(path)
        return method, await show() if show else _plain(HTTPStatus.NOT_FOUND)


def standard_pages(
    metrics: Metrics, progress: LoopProgress | None, readiness: Readiness, *, refresh: Callable[[], None]
) -> dict[str, Show]:
    """The three pages of every service. `refresh` brings gauges up to date before a scrape, on a thread of its own."""

    def render() -> bytes:
        refresh()
        return metrics.render()

    async def show_metrics() -> Page:
        return Page(body=await asyncio.to_thread(render), content_type=CONTENT_TYPE)

    async def show_health() -> Page:
        silent_s = progress.silent_s() if progress else 0.0
        is_alive = progress.is_alive() if progress else True
        return _state(is_alive, {"alive": is_alive, "silent_s": round(silent_s, 3)})

    async def show_readiness() -> Page:
        return _state(readiness.is_ready, {"ready": readiness.is_ready, "missing": list(readiness.missing)})

    return {"/metrics": show_metrics, "/healthz": show_health, "/readyz": show_readiness}


def _state(is_well: bool, facts: Mapping[str, object]) -> Page:
    status = HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE
    return Page(body=json.dumps(facts).encode() + b"\n", status=status)


def _plain(status: HTTPStatus) -> Page:
    return Page(body=f"{status.value} {status.phrase}\n".encode(), status=status, content_type="text/plain")


def _encode(page: Page, *, with_body: bool) -> bytes:
    head = (
        f"HTTP/1.1 {page.status.value} {page.status.phrase}\r\n"
        f"content-type: {page.content_type}\r\ncontent-length: {len(page.body)}\r\n"
        "cache-control: no-store\r\nconnection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (page.body if with_body else b"")
