"""An ASGI site on a socket: uvicorn without signals of its own, which are the process's business."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn

from common.core.errors import StartupError


def listen(host: str, port: int, *, backlog: int) -> socket.socket:
    """Whoever is told the address may connect at once. Raises StartupError when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise StartupError(message=f"{host}:{port} cannot be listened on: {error.strerror}") from error
    listener.setblocking(False)
    return listener


@asynccontextmanager
async def served(config: uvicorn.Config, listener: socket.socket, *, name: str) -> AsyncIterator[str]:
    """Served inside the block, at the address it gives: host:port. At its end running answers get the graceful
    shutdown's time to finish."""
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name=name)
    host, port = listener.getsockname()[:2]
    try:
        yield f"{host}:{port}"
    finally:
        server.should_exit = True
        await serving  # bounded: by the graceful shutdown's own time


class _Server(uvicorn.Server):
    """Hears no signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
