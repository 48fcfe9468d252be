"""An ASGI site on a socket: uvicorn without signals of its own, which are the process's business."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn

from common.core.errors import InternalError
from common.observe.listener import address_of


@asynccontextmanager
async def served(config: uvicorn.Config, listener: socket.socket, *, name: str) -> AsyncIterator[str]:
    """Served inside the block, at the address it gives: host:port. At its end running answers get the graceful
    shutdown's time to finish. A server that ends before the block does, ends it: raises its error, or InternalError."""
    server, block = _Server(config), asyncio.current_task()
    assert block is not None, "a block runs in a task"
    is_over = is_early = False

    def end_block(_serving: asyncio.Task[None]) -> None:
        nonlocal is_early
        if not is_over:
            is_early = block.cancel()

    serving = asyncio.create_task(server.serve(sockets=[listener]), name=name)
    serving.add_done_callback(end_block)
    try:
        yield address_of(listener)
    finally:
        is_over = server.should_exit = True
        if is_early:
            block.uncancel()
        await serving  # bounded: by the graceful shutdown's own time
        if is_early:
            raise InternalError(message=f"the server of {name} ended by itself")


class _Server(uvicorn.Server):
    """Hears no signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
