"""SIGTERM to workers with requests on them: answers move with their pages, prompts are read elsewhere."""

import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from services.local.topology import Kind
from tests.cluster.drive import PAGE_SIZE, SLOW_SIM, check_all, counter, prompts, running_on
from tests.cluster.house import CLOCK, Ask, house
from tests.cluster.leaving import end, leave, wait_back
from tests.cluster.reference import Reference, torch_reference

pytestmark = pytest.mark.cluster

SEED = 21_001
GRACE_S = 20.0
NUM_STREAMS, PROMPT_TOKENS = 16, 90
MOST_TOKENS = 3500
"""About what the model can hold."""

SETTINGS = ("engine.num_pages=4096", "router.local_prompt_tokens=16", f"liveness.drain_s={GRACE_S}")


@pytest.mark.timeout(420)
async def test_sixteen_long_streams_leave_a_decode_worker_within_twenty_seconds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """F21, with the demo model's weights; greedy and sampled, one and two choices, and no stream would end within half
    the grace (about all of it on an idle machine). The other worker was away when they came, so that all of them are
    on the one that leaves."""
    alone = torch_reference(Path("models/demo"), num_pages=4096)
    asks = long_streams(alone)
    num_choices, max_tokens = sum(ask.n for ask in asks), asks[0].max_tokens
    async with house(prefill=1, decode=2, settings=SETTINGS) as cluster:
        leaving, other = cluster.worker(Kind.DECODE, 0), cluster.worker(Kind.DECODE, 1)
        await end(cluster, other, within_s=GRACE_S)
        running = asyncio.create_task(cluster.ask_all(asks, timeout_s=360.0))
        expected = asyncio.create_task(asyncio.to_thread(alone.answer_together, asks))
        await wait_back(cluster, other)
        await cluster.wait_whole()

        async def all_run() -> bool:
            return await running_on(cluster, Kind.DECODE) == num_choices

        await cluster.until(all_run)
        at_signal = (await cluster.status(leaving)).load
        computed = await counter(cluster, Kind.PREFILL, "computed_tokens")
        took_s = await leave(cluster, leaving, within_s=GRACE_S)
        landed = await cluster.status(other)
        spent = await counter(cluster, Kind.PREFILL, "computed_tokens") - computed
        told = await running
        figures = (await cluster.view()).figures
        tokens = await expected
    for ask, each, answer in zip(asks, told, tokens, strict=True):
        each.check_whole(max_tokens)
        assert [each.tokens(choice) for choice in range(ask.n)] == answer
    written = at_signal.context_tokens / num_choices - PROMPT_TOKENS
    in_place_s = (max_tokens - written) * at_signal.step_seconds
    silence_s = max(each.longest_silence_s for each in told)
    with capsys.disabled():
        print(f"\nF21: {num_choices} answers of {max_tokens} tokens, {in_place_s:.0f} s to go, left in {took_s:.2f} s")
        print(f"{landed.counters['landed_bytes']:.0f} bytes moved, longest silence of a client {silence_s:.2f} s")
    assert in_place_s > GRACE_S / 2, "they would have ended where they were"
    assert figures["choices_moved"] == num_choices
    assert landed.counters["landed_bytes"] >= num_choices * PROMPT_TOKENS // PAGE_SIZE * landed.layout.page_bytes
    assert spent == landed.counters["local_prompt_tokens"] == 0, "a prompt was read again"
    assert took_s < GRACE_S


def long_streams(alone: Reference) -> list[Ask]:
    """Two of them with two choices, and more tokens than this machine writes within the grace."""
    chance = random.Random(SEED)
    print(f"seed {SEED}")
    asks = [
        Ask(tokens=tuple(chance.randrange(10, 4000) for _ in range(PROMPT_TOKENS)), temperature=number % 2, seed=number)
        for number in range(NUM_STREAMS)
    ]
    asks[1::8] = [replace(ask, n=2) for ask in asks[1::8]]
    max_tokens = math.ceil(0.8 * GRACE_S / step_s(alone, asks))
    return [replace(ask, max_tokens=min(max_tokens, MOST_TOKENS)) for ask in asks]


def step_s(alone: Reference, asks: Sequence[Ask], *, num_steps: int = 64) -> float:
    """Of all of them in one batch, without their reading. A worker has more to do, and longer contexts: on an idle
    machine it needs twice this and more."""

    def took_s(max_tokens: int) -> float:
        began = CLOCK.monotonic()
        alone.answer_together([replace(ask, max_tokens=max_tokens) for ask in asks])
        return CLOCK.monotonic() - began

    reading_s = min(took_s(1) for _ in range(2))  # the first touches the pages
    return (took_s(1 + num_steps) - reading_s) / num_steps


READING_S = 0.8
"""Of one prompt below: forty chunks."""


async def test_prompts_that_wait_leave_a_prefill_worker_and_nobody_may_fail_once() -> None:
    """Four to eight prompts on each of two prefill workers, read one after the other: the one that leaves ends what it
    has begun, the other reads the rest."""
    narrow = ("engine.max_batch_tokens=16", "engine.max_sequences=6", "router.max_attempts=1")
    asks = prompts(12, length=640, max_tokens=8, seed=SEED + 2)
    async with house(prefill=2, decode=4, settings=(*SLOW_SIM, *narrow, "liveness.drain_s=20")) as cluster:
        running = asyncio.create_task(cluster.ask_all(asks))
        leaving = cluster.worker(Kind.PREFILL, 0)

        async def many_wait() -> bool:
            return (await cluster.status(leaving)).load.waiting_tokens > 3 * 640

        await cluster.until(many_wait)
        load = (await cluster.status(leaving)).load
        took_s = await leave(cluster, leaving, within_s=20.0)
        told = await running
    check_all(asks, told)
    waited = load.running_sequences + load.waiting_requests
    assert waited >= 4
    assert took_s < (waited - 1) * READING_S, "it read what waited for it"
