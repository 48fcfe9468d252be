"""Goal: the embedded server starts, dies and returns as told, and leaves nothing behind."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from common.core.errors import StartupError
from common.directory.redis_store import RedisStore
from common.directory.store import Put
from services.local.valkey import EmbeddedValkey


async def test_a_killed_server_is_back_on_the_same_port_and_empty() -> None:
    async with EmbeddedValkey() as valkey:
        store, url = RedisStore(valkey.url, timeout_s=2), valkey.url
        await store.write([Put(key="a", value=b"1", ttl_s=60)])
        first = valkey.pid
        await valkey.kill()
        await valkey.wait_end()
        await store.drop()
        await valkey.start()
        assert valkey.url == url
        assert valkey.pid != first
        assert await store.read(["a"]) == (None,)
        await store.drop()
        last = valkey.pid
    with pytest.raises(ProcessLookupError):
        os.kill(last, 0)


async def test_a_taken_port_is_reported_when_it_was_asked_for() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(StartupError, match="did not start on port"):
            await EmbeddedValkey(port=taken.getsockname()[1]).start()


async def test_a_taken_port_is_avoided_when_it_was_ours_to_choose() -> None:
    valkey = EmbeddedValkey()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", valkey.port))
        taken.listen()
        async with valkey:
            assert valkey.port != taken.getsockname()[1]


async def test_a_server_that_the_system_cannot_run_is_reported_and_may_be_started_later(tmp_path: Path) -> None:
    """The folder for its rights is away, as on a full disk."""
    folder = tmp_path / "away"
    valkey = EmbeddedValkey(acl=("user default on nopass ~* &* +@all",), folder=folder)
    with pytest.raises(StartupError, match="cannot be run: No such file or directory"):
        await valkey.start()
    folder.mkdir()
    async with valkey:
        assert valkey.pid


@pytest.mark.parametrize("name", ["two words", 'a "quoted" one', "Stra\udcdfe"])
async def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    """The last one is Latin-1, as on older file systems."""
    folder = tmp_path / name
    folder.mkdir()
    async with EmbeddedValkey(acl=("user default on nopass ~* &* +@all",), folder=folder) as valkey:
        assert valkey.pid


async def test_an_end_from_outside_is_noticed() -> None:
    async with EmbeddedValkey() as valkey:
        ended = asyncio.create_task(valkey.wait_end())
        os.kill(valkey.pid, 9)
        async with asyncio.timeout(5):
            await ended
