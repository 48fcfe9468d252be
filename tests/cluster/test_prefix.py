"""Goal: a conversation whose worker is busy goes on elsewhere, and its history follows it. Method: real processes with
the demo model and room for one answer each, against one process without a network."""

import asyncio
import random
from pathlib import Path

import pytest

from services.local.answer import Answer
from services.local.topology import Kind
from tests.cluster.drive import PAGE_SIZE, counter, running_on, wait_tokens
from tests.cluster.house import CLOCK, Ask, Told, house
from tests.cluster.leaving import end, wait_back
from tests.cluster.reference import torch_reference

MODEL = Path("models/demo")
HISTORY = 50 * PAGE_SIZE
LONG = 2600
"""Tokens of an answer that is written for longer than a worker takes to start."""
SETTINGS = (
    f"model.path={MODEL}",
    "engine.num_pages=512",
    "engine.max_sequences=1",
    "router.routes=local",
    "router.fetch_patience_ms=10000",  # a crowded machine is no reason to read
)

pytestmark = [pytest.mark.cluster, pytest.mark.calm, pytest.mark.timeout(240)]


async def test_the_next_turn_of_a_conversation_finds_its_history_on_a_worker_that_never_read_it() -> None:
    chance = random.Random(20261121)
    first = Ask(tokens=tuple(chance.randrange(10, 4000) for _ in range(HISTORY)), max_tokens=8)
    async with house(prefill=0, decode=2, settings=SETTINGS) as cluster:
        other = cluster.worker(Kind.DECODE, 1)
        await end(cluster, other, within_s=10.0)  # so that one worker has the conversation and what fills its one place
        answer = await cluster.ask(first)
        history = (*first.tokens, *answer.tokens())
        busy = Told(answer=Answer(CLOCK))
        filling = asyncio.create_task(cluster.ask(Ask(tokens=first.tokens, max_tokens=LONG), told=busy))
        await wait_tokens(cluster, busy, 1)
        assert busy.answer.usage.completion_tokens == 0
        await wait_back(cluster, other)
        await cluster.wait_whole()
        running = [await running_on(cluster, Kind.DECODE, number) for number in (0, 1)]
        assert sorted(running) == [0, 1]
        following = Ask(tokens=(*history, *(chance.randrange(10, 4000) for _ in range(20))), max_tokens=12)
        told = await cluster.ask(following)
        assert not filling.done(), "the holder was to be busy all the time"
        filling.cancel()
        await asyncio.gather(filling, return_exceptions=True)
        fetched = await counter(cluster, Kind.DECODE, "fetched_pages")
        read = await counter(cluster, Kind.DECODE, "local_prompt_tokens")
    told.check_whole(following.max_tokens)
    assert [told.tokens()] == torch_reference(MODEL).answer(following)
    cached = told.answer.usage.cached_tokens
    assert cached >= HISTORY
    assert fetched * PAGE_SIZE == cached
    assert read == len(first.tokens) + 1 + len(following.tokens) - cached + _again(first)
    print(f"{fetched:.0f} pages fetched, {len(following.tokens) - cached} of {len(following.tokens)} tokens read")


def _again(first: Ask) -> int:
    """Of the filling request, the page that holds the prompt's last token."""
    return PAGE_SIZE - 1 if len(first.tokens) % PAGE_SIZE == 0 else len(first.tokens) % PAGE_SIZE - 1
