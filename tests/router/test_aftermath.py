"""Of a request that is over a router keeps what `baton explain` tells, and neither prompt nor journey, though nobody
looks for garbage."""

import asyncio
import gc
from collections.abc import Iterator

import pytest

from common.core.errors import ContextLengthExceeded, DeadlineExceeded, InvalidRequest
from protos.baton.v1 import generation_pb2, types_pb2
from services.router.asked import Asked
from services.router.journey import Journey
from tests.router.door import IDS, Door, at_the_door


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_requests_that_failed_are_gone() -> None:
    async def act(door: Door) -> None:
        long = generation_pb2.TokenIds(ids=[5] * 5000)
        assert isinstance(await door.error_of(token_ids=long), ContextLengthExceeded)
        bad = types_pb2.SamplingParams(temperature=9.0)
        assert isinstance(await door.error_of(token_ids=IDS, sampling=bad), InvalidRequest)
        slow = types_pb2.SamplingParams(max_tokens=500)
        assert isinstance(await door.error_of(timeout_s=0.3, token_ids=IDS, sampling=slow), DeadlineExceeded)
        running = door.clients.Generate(generation_pb2.GenerateRequest(token_ids=IDS, sampling=slow))
        await asyncio.sleep(0.2)
        running.cancel()
        del running
        await asyncio.sleep(10.0)
        left = [each for each in of_requests() if id(each) not in before]
        assert not left

    before = {id(each): each for each in of_requests()}
    at_the_door(act)


def test_requests_that_were_answered_are_gone() -> None:
    async def act(door: Door) -> None:
        for how in (types_pb2.SamplingParams(max_tokens=8, n=2), types_pb2.SamplingParams(max_tokens=1)):
            assert await door.generate(token_ids=IDS, sampling=how)
        await asyncio.sleep(1.0)
        left = [each for each in of_requests() if id(each) not in before]
        assert not left

    before = {id(each): each for each in of_requests()}
    at_the_door(act)


def of_requests() -> list[object]:
    """Other tests may keep some."""
    return [each for each in gc.get_objects() if type(each) in (Asked, Journey)]
