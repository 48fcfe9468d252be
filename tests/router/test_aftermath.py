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
from services.router.leg import Leg
from tests.router.door import IDS, WINDOW_S, Door, at_the_door


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


@pytest.mark.parametrize("is_resumable", [False, True])
def test_requests_that_met_trouble_are_gone(is_resumable: bool) -> None:
    """What breaks a leg has passed its frames, and is acted upon by the journey."""

    async def act(door: Door) -> None:
        worker = door.house.stage.workers["d0"].script
        sampling = types_pb2.SamplingParams(max_tokens=8)
        long = generation_pb2.TokenIds(ids=range(1, 100))  # through prefill
        for trouble in ("refusals", "internal_errors", "transfer_failures"):
            setattr(worker, trouble, 1)
            assert await door.generate(token_ids=long, sampling=sampling, resumable=is_resumable)
        worker.refusals = 1000
        late = await door.error_of(timeout_s=1.0, token_ids=IDS, sampling=sampling, resumable=is_resumable)
        assert isinstance(late, DeadlineExceeded)
        await asyncio.sleep(2 * WINDOW_S)
        left = [each for each in of_requests() if id(each) not in before]
        assert not left

    before = {id(each): each for each in of_requests()}
    at_the_door(act)


@pytest.mark.parametrize("is_resumable", [False, True])
def test_requests_whose_clients_stopped_reading_are_gone(is_resumable: bool) -> None:
    """Their work was paused; the window of those that could be resumed went by."""

    async def act(door: Door) -> None:
        sampling = types_pb2.SamplingParams(max_tokens=500)
        request = generation_pb2.GenerateRequest(token_ids=IDS, sampling=sampling, resumable=is_resumable)
        running = door.clients.Generate(request)
        await asyncio.sleep(2.0)
        running.cancel()
        del running
        await asyncio.sleep(2 * WINDOW_S)
        left = [each for each in of_requests() if id(each) not in before]
        assert not left

    before = {id(each): each for each in of_requests()}
    at_the_door(act)


def of_requests() -> list[object]:
    """Other tests may keep some."""
    return [each for each in gc.get_objects() if type(each) in (Asked, Journey, Leg)]
