"""A body of many prompts does not take the gateway from everybody else."""

import asyncio

import pytest

from common.core.errors import Refused
from services.gateway import places
from services.gateway.places import Places
from tests.gateway.house import HELLO, gateway, say


async def test_many_prompts_are_asked_a_few_at_a_time_and_all_are_answered():
    gate = asyncio.Event()
    async with gateway((gate, *HELLO), max_calls_per_request=4) as house:
        asking = asyncio.create_task(house.post("/v1/completions", {"prompt": ["hi"] * 128}))
        while len(house.router.asked) < 4:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert len(house.router.asked) == 4
        gate.set()
        answer = await asking
    assert [choice["index"] for choice in answer.json["choices"]] == list(range(128))
    assert all(choice["text"] == "hello" for choice in answer.json["choices"])
    assert len(house.router.asked) == 128


async def test_one_prompt_goes_between_those_of_a_large_body():
    """Two places, both taken by the large body, which waits in line with two more: the small one is third."""
    gate = asyncio.Event()
    async with gateway((gate, *HELLO), max_calls=2, max_calls_per_request=4) as house:
        large = asyncio.create_task(house.post("/v1/completions", {"prompt": ["large"] * 100}))
        while len(house.router.asked) < 2:
            await asyncio.sleep(0.01)
        small = asyncio.create_task(house.post("/v1/completions", {"prompt": "small"}))
        await asyncio.sleep(0.1)
        gate.set()
        assert (await small).status == 200
        asked = [request.text for request in house.router.asked]
        assert asked.index("small") <= 6
        await large


async def test_who_gets_no_place_in_time_is_told_to_come_back(monkeypatch):
    monkeypatch.setattr(places, "WAIT_S", 0.05)
    gate = asyncio.Event()
    async with gateway((gate, *HELLO), max_calls=1) as house:
        first = asyncio.create_task(house.post("/v1/completions", {"prompt": "a"}))
        while not house.router.asked:
            await asyncio.sleep(0.01)
        second = await house.post("/v1/completions", {"prompt": "b", "stream": True})
        assert (second.status, second.headers["retry-after"]) == (429, "1")
        gate.set()
        assert (await first).status == 200
        assert (await house.post("/v1/completions", {"prompt": "c"})).status == 200


async def test_an_error_of_one_prompt_ends_the_others_and_gives_every_place_back():
    many = Places(2, per_exchange=2)
    async with many.one(), many.one():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02), many.one():
                pass
    async with many.one(), many.one():
        pass
    refused = Refused(message="full", retry_after_s=3.0)
    async with gateway((say("h", prompt=1), refused), max_calls=2, max_calls_per_request=2) as house:
        for _ in range(3):
            answer = await house.post("/v1/completions", {"prompt": ["a"] * 5})
            assert (answer.status, answer.headers["retry-after"]) == (429, "3")
