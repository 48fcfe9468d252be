"""Goal: the answers of several prompts come as one, and end as one, however one of them ends."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from common.core.errors import Refused
from protos.baton.v1 import generation_pb2
from services.gateway.answer import Answer
from services.gateway.places import Places
from services.gateway.routers import Routers


class Breaking:
    """Routers that write one message per prompt; what the second prompt gets instead is told when it is made."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.num_open = 0

    async def generate(
        self, request: generation_pb2.GenerateRequest, **_: Any
    ) -> AsyncIterator[generation_pb2.GenerateResponse]:
        self.num_open += 1
        try:
            if request.request_id == "1":
                raise self.error
            yield generation_pb2.GenerateResponse(prompt_tokens=3)
            await asyncio.Event().wait()  # bounded: cancelled with the others
        finally:
            self.num_open -= 1


async def read(answer: Answer) -> None:
    async for _ in answer.pieces():
        pass


@pytest.mark.parametrize("error", [Refused(message="full"), AssertionError("a bug"), UnicodeError("another")])
async def test_what_ends_one_prompt_ends_all_and_is_raised(error: Exception) -> None:
    routers = Breaking(error)
    requests = [generation_pb2.GenerateRequest(request_id=str(number)) for number in range(3)]
    places = Places(8, per_exchange=4)
    answer = Answer(cast(Routers, routers), requests, places=places, timeout_s=None)
    with pytest.raises(type(error)):
        await asyncio.wait_for(read(answer), 2.0)
    assert routers.num_open == 0
