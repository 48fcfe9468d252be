"""Goal: load on a cluster that refuses some of it is heard to its end. Method: a router that we play."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import cast

import pytest

from common.core.clock import SystemClock
from common.core.entropy import SeededEntropy
from common.core.errors import Refused
from protos.baton.v1 import generation_pb2
from services.local.client import RouterClient
from services.local.exercise import Ask, Heard, exercise, served


@dataclass
class Clerk:
    """Serves one request in `every`."""

    every: int
    num_asked: int = field(default=0, init=False)

    async def generate(
        self, request: generation_pb2.GenerateRequest, *, timeout_s: float
    ) -> AsyncIterator[generation_pb2.GenerateResponse]:
        self.num_asked += 1
        if self.num_asked % self.every:
            raise Refused(message="the standard queue is full")
        yield generation_pb2.GenerateResponse(deltas=[generation_pb2.ChoiceDelta(token_ids=[1, 2])])


async def press(clerk: Clerk) -> list[Heard]:
    asks = [Ask(at_s=0.0, prompt_tokens=4, output_tokens=2)] * 6
    client = cast(RouterClient, clerk)
    return await exercise(client, asks, vocab_size=1000, clock=SystemClock(), entropy=SeededEntropy(1))


async def test_who_is_refused_does_not_end_the_others() -> None:
    heard = await press(Clerk(every=3))
    assert [one.refused is None for one in heard] == [False, False, True] * 2
    assert [len(one.token_s) for one in served(heard)] == [2, 2]


async def test_where_nothing_is_served_one_sentence_says_why() -> None:
    with pytest.raises(Refused, match="nothing was served: the standard queue is full; press less"):
        served(await press(Clerk(every=100)))
