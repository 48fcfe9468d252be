"""The engine in this process: real batch, real step thread, pages from the simulated executor."""

import asyncio

import pytest

from common.config.loader import load
from common.core.clock import SystemClock
from common.core.entropy import SeededEntropy
from common.core.errors import InternalError
from services.local.bench.engine_target import engine_target
from services.local.bench.prompts import Prompts
from services.local.bench.target import hear

CLOCK = SystemClock()


def config(**engine: object):
    return load(settings=["engine.executor=sim", *(f"engine.{name}={value}" for name, value in engine.items())])


async def test_streams_that_share_steps_each_get_every_token():
    async with engine_target(config(), CLOCK) as target:
        prompts = Prompts(SeededEntropy(3), target.vocab_size)
        told = await asyncio.gather(*(hear(target, prompts.fresh(40), 20, CLOCK) for _ in range(5)))
        assert [each.num_tokens for each in told] == [20] * 5


async def test_a_long_prompt_is_read_in_chunks_and_costs_as_many_steps():
    async with engine_target(config(chunk_tokens=32), CLOCK) as target:
        prompts = Prompts(SeededEntropy(3), target.vocab_size)
        before = target.turns.turns
        await hear(target, prompts.fresh(320), 1, CLOCK)
        assert target.turns.turns - before >= 9  # the tenth may not be counted yet


async def test_a_reader_that_leaves_gives_its_pages_back():
    async with engine_target(config(), CLOCK) as target:
        prompts = Prompts(SeededEntropy(3), target.vocab_size)
        pieces = target.stream(prompts.fresh(40), 1000)
        await anext(pieces)
        await pieces.aclose()
        await hear(target, prompts.fresh(40), 2, CLOCK)
        assert target.turns.look.load.pages.referenced == 0


async def test_an_engine_without_pages_fails_its_readers_instead_of_leaving_them_waiting():
    async with engine_target(config(num_pages=4), CLOCK) as target:
        prompts = Prompts(SeededEntropy(3), target.vocab_size)
        with pytest.raises(InternalError, match="found no page"):
            await hear(target, prompts.fresh(200), 2, CLOCK)
