"""Goal: requests that do not arrive take no more memory than is set aside. Method: callers that say nothing, in virtual
time."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from common.core.errors import DeadlineExceeded, InvalidRequest, Refused
from common.rpc.uploads import HASTE_S, Uploads

pytestmark = pytest.mark.virtual_time


async def silence() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()  # bounded: whoever reads gives up
    yield b""


async def word() -> AsyncIterator[bytes]:
    yield b"all of it"


async def nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def wait(uploads: Uploads) -> "asyncio.Task[bytes]":
    return asyncio.create_task(uploads.first(silence(), "Generate"))


async def test_whoever_waited_longest_gives_way_to_one_more_than_there_is_room_for() -> None:
    uploads = Uploads(within_s=10.0, most=3)
    slow = [wait(uploads) for _ in range(3)]
    await asyncio.sleep(2 * HASTE_S)
    assert await uploads.first(word(), "Generate") == b"all of it"
    with pytest.raises(Refused, match="Generate: 3 requests are on their way"):
        await slow[0]
    assert not slow[1].done()
    for each in slow[1:]:
        with pytest.raises(DeadlineExceeded, match="did not arrive within 10 s"):
            await each


async def test_a_crowd_that_comes_at_once_has_its_moment() -> None:
    uploads = Uploads(within_s=0.5, most=1)
    crowd = [wait(uploads) for _ in range(20)]
    for each in crowd:
        with pytest.raises(DeadlineExceeded):
            await each


async def test_whoever_arrived_or_left_takes_no_room() -> None:
    uploads = Uploads(within_s=10.0, most=2)
    slow = wait(uploads)
    await asyncio.sleep(2 * HASTE_S)
    for _ in range(5):
        assert await uploads.first(word(), "Generate") == b"all of it"
    with pytest.raises(InvalidRequest, match="without a request"):
        await uploads.first(nothing(), "Generate")
    given_up = wait(uploads)
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.sleep(0)
    assert await uploads.first(word(), "Generate") == b"all of it"
    assert not slow.done()
    slow.cancel()
