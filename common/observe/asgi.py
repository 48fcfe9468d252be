"""An ASGI site on a socket: uvicorn without signals of its own, which are the process's business."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn

from common.observe.listener import address_of


@asynccontextmanager
async def served(config: uvicorn.Config, listener: socket.socket, *, name: str) -> AsyncIterator[str]:
    """Served inside the block, at the address it gives: host:port. At its end running answers get the graceful
    shutdown's time to finish."""
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name=name)
    try:
        yield address_of(listener)
    finally:
        server.should_exit = True
        await serving  # bounded: by the graceful shutdown's own time


class _Server(uvicorn.Server):
    """Hears no signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
