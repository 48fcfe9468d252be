"""Goal: a process whose HTTP server is gone does not go on as if it served. Method: uvicorn on a real socket, ended
beneath us."""

import asyncio
import socket

import pytest
import uvicorn

from common.core.errors import InternalError
from common.observe import asgi


async def site(scope: object, receive: object, send: object) -> None:
    raise AssertionError("nobody asks")


def config() -> uvicorn.Config:
    return uvicorn.Config(site, lifespan="off", log_config=None, ws="none")


async def test_a_server_that_ends_by_itself_ends_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    async def tick(self: uvicorn.Server, counter: int) -> bool:
        return counter > 0

    monkeypatch.setattr(uvicorn.Server, "on_tick", tick)
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(InternalError, match="http ended by itself"):
        async with asgi.served(config(), listener, name="http"):
            await asyncio.Event().wait()  # bounded: the server's end
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_server_that_a_bug_ends_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    async def tick(self: uvicorn.Server, counter: int) -> bool:
        raise RuntimeError("a bug")

    monkeypatch.setattr(uvicorn.Server, "on_tick", tick)
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(RuntimeError, match="a bug"):
        async with asgi.served(config(), listener, name="http"):
            await asyncio.Event().wait()  # bounded: the server's end


async def test_a_block_that_ends_first_ends_its_server_without_a_word() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with asgi.served(config(), listener, name="http") as address:
            assert address.startswith("127.0.0.1:")
