"""SIGTERM to processes with requests on them: answers move with their pages; nothing is lost, failed or repeated."""

import asyncio
import random
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from services.local.answer import Answer
from services.local.drain import drain
from services.local.supervisor import Supervised
from services.local.topology import Kind
from tests.cluster.balancer import balancer
from tests.cluster.drive import PAGE_BYTES, PAGE_SIZE, SLOW_SIM, check_all, counter, prompts, wait_tokens
from tests.cluster.house import CLOCK, Ask, House, Told, house
from tests.cluster.reference import torch_reference

pytestmark = pytest.mark.cluster

SEED = 21_001
GRACE_S = 8.0
NOTICE_S = 1.0
STREAMS = (*SLOW_SIM, f"liveness.drain_s={GRACE_S}")
LONG_TOKENS = 700
"""Fourteen seconds of steps: nobody ends within the grace."""


async def test_sixteen_long_streams_leave_a_decode_worker_with_their_pages(capsys: pytest.CaptureFixture[str]) -> None:
    """F21. Greedy and sampled, one and two choices; the worker exits 0 within its grace, and nothing is read again."""
    plain = prompts(20, length=90, max_tokens=LONG_TOKENS, seed=SEED)
    pairs = prompts(6, length=90, max_tokens=LONG_TOKENS, seed=SEED + 1)
    asks = [*plain, *(replace(ask, n=2, temperature=1.0, seed=SEED + n) for n, ask in enumerate(pairs))]
    async with house(prefill=1, decode=2, settings=STREAMS) as cluster:
        running = asyncio.create_task(cluster.ask_all(asks))
        leaving, other = cluster.worker(Kind.DECODE, 0), cluster.worker(Kind.DECODE, 1)

        async def all_run() -> bool:
            loads = [(await cluster.status(each)).load for each in (leaving, other)]
            return sum(load.running_sequences for load in loads) == 32

        await cluster.until(all_run)
        await asyncio.sleep(1.0)
        hit = (await cluster.status(leaving)).load.running_sequences
        before = dict((await cluster.status(other)).counters)
        computed = await counter(cluster, Kind.PREFILL, "computed_tokens")
        took_s = await leave(cluster, leaving)
        after = dict((await cluster.status(other)).counters)
        spent = await counter(cluster, Kind.PREFILL, "computed_tokens") - computed
        told = await running
        figures = (await cluster.view()).figures
    check_all(asks, told)
    moved_bytes = after["landed_bytes"] - before["landed_bytes"]
    silence_s = max(each.longest_silence_s for each in told)
    gap_ms = figures["move_gap_p50"] * 1000
    with capsys.disabled():
        print(f"\nF21: {hit} sequences left within {took_s:.2f} s of {GRACE_S:.0f}, {moved_bytes:.0f} bytes moved")
        print(f"gap p50 at most {gap_ms:.0f} ms, longest silence of a client {silence_s * 1000:.0f} ms")
    assert hit >= 12
    assert figures["choices_moved"] == hit
    assert spent == 0, "a prompt was read again"
    assert after["local_prompt_tokens"] == before["local_prompt_tokens"]
    assert moved_bytes >= hit * 90 // PAGE_SIZE * PAGE_BYTES
    assert took_s <= GRACE_S


async def leave(cluster: House, process: Supervised, *, within_s: float = GRACE_S + 5.0) -> float:
    """SIGTERM, until its successor is ready; it must have exited 0. Seconds that its end took."""
    restarts = process.restarts
    process.ready.clear()
    began = CLOCK.monotonic()
    pid = process.child.pid
    assert pid is not None
    process.status = None
    process.child.signal(signal.SIGTERM)

    async def is_gone() -> bool:
        return process.status is not None

    await cluster.until(is_gone, timeout_s=within_s)
    took_s = CLOCK.monotonic() - began
    assert process.status == 0, f"{process.spec.name} ended with {process.status}"

    async def is_back() -> bool:
        return process.restarts > restarts and process.ready.is_set()

    await cluster.until(is_back, timeout_s=30.0)
    return took_s


async def test_the_demo_models_answers_move_when_a_worker_is_taken_out_by_hand() -> None:
    """`baton drain`. Pages of real numbers, from decode to decode: the tokens are those of a single process."""
    chance = random.Random(SEED)
    asks = [
        Ask(
            tokens=tuple(chance.randrange(10, 4000) for _ in range(60)), max_tokens=400, temperature=temperature, seed=7
        )
        for temperature in (0.0, 0.0, 1.0, 1.0)
    ]
    async with house(prefill=1, decode=2, settings=("engine.num_pages=2048", "router.local_prompt_tokens=16")) as made:
        told = [Told(answer=Answer(CLOCK)) for _ in asks]
        running = [asyncio.create_task(made.ask(ask, told=each)) for ask, each in zip(asks, told, strict=True)]
        for each in told:
            await wait_tokens(made, each, 3)
        computed = await counter(made, Kind.PREFILL, "computed_tokens")
        loads = [(await made.status(made.worker(Kind.DECODE, number))).load for number in range(2)]
        leaving = max(range(2), key=lambda number: loads[number].running_sequences)
        hit = loads[leaving].running_sequences
        other = await made.status(made.worker(Kind.DECODE, 1 - leaving))
        page_bytes, before = other.layout.page_bytes, other.counters["landed_bytes"]
        await drain(made.client, f"decode-{leaving}", 4.0, Console(quiet=True))
        after = (await made.status(made.worker(Kind.DECODE, 1 - leaving))).counters
        spent = await counter(made, Kind.PREFILL, "computed_tokens") - computed
        await asyncio.gather(*running)
        await made.wait_whole()
    reference = torch_reference(Path("models/demo"))
    for ask, each in zip(asks, told, strict=True):
        each.check_whole()
        assert [each.tokens()] == reference.answer(ask)
    assert hit > 0
    assert spent == 0
    assert after["local_prompt_tokens"] == 0
    assert after["landed_bytes"] - before >= hit * 60 // PAGE_SIZE * page_bytes


PER_S = 10.0


@pytest.mark.timeout(240)
async def test_everything_is_restarted_one_by_one_under_load_and_nothing_fails(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """F20: two routers, two prefill and two decode workers and Redis, ten requests a second, no retries by clients."""
    settings = (*SLOW_SIM, "liveness.drain_s=20", f"liveness.drain_notice_s={NOTICE_S}")
    async with house(prefill=2, decode=2, routers=2, settings=settings) as cluster:
        addresses = [cluster.cluster.router_address(number) for number in range(2)]
        async with balancer(addresses) as routers:
            over = asyncio.Event()
            asking = asyncio.create_task(keep_asking(routers.ask, over))
            await asyncio.sleep(1.0)
            for kind in (Kind.DECODE, Kind.PREFILL, Kind.ROUTER):
                for process in cluster.cluster.of(kind):
                    await leave(cluster, process, within_s=25.0)
                    await routers.wait_serving(2)
                    await cluster.wait_workers(4)
            await cluster.valkey.kill()
            await asyncio.sleep(1.0)
            over.set()
            asked = await asking
    check_all([ask for ask, _ in asked], [told for _, told in asked])
    silences = sorted(told.longest_wait_s for _, told in asked)
    with capsys.disabled():
        print(f"\nF20: {len(asked)} requests, longest silence {silences[-1]:.2f} s")
    assert silences[-1] <= 5.0 + 1.0


async def keep_asking(ask, over: asyncio.Event) -> list[tuple[Ask, Told]]:
    """Ten a second until `over`, then to the last answer."""
    running: list[tuple[Ask, asyncio.Task[Told]]] = []
    began = CLOCK.monotonic()
    while not over.is_set():
        number = len(running)
        await asyncio.sleep(max(0.0, began + number / PER_S - CLOCK.monotonic()))
        wanted = prompts(1, length=(20, 90)[number % 2], max_tokens=(60, 150)[number % 3 > 0], seed=SEED + number)[0]
        if number % 4 == 3:
            wanted = replace(wanted, n=2, temperature=1.0, seed=number + 1)
        running.append((wanted, asyncio.create_task(ask(wanted))))
    return [(wanted, await task) for wanted, task in running]


READING_S = 0.8
"""Of one prompt below: forty chunks."""


async def test_prompts_that_wait_leave_a_prefill_worker_and_nobody_may_fail_once() -> None:
    """Six prompts or so on each of two prefill workers, read one after the other: the one that leaves ends what it has
    begun, the other reads the rest."""
    narrow = ("engine.max_batch_tokens=16", "engine.max_sequences=6", "router.max_attempts=1")
    asks = prompts(12, length=640, max_tokens=8, seed=SEED + 2)
    async with house(prefill=2, decode=4, settings=(*SLOW_SIM, *narrow, "liveness.drain_s=20")) as cluster:
        running = asyncio.create_task(cluster.ask_all(asks))
        leaving = cluster.worker(Kind.PREFILL, 0)

        async def many_wait() -> bool:
            return (await cluster.status(leaving)).load.waiting_tokens > 4 * 640

        await cluster.until(many_wait)
        load = (await cluster.status(leaving)).load
        took_s = await leave(cluster, leaving, within_s=20.0)
        told = await running
    check_all(asks, told)
    waited = load.running_sequences + load.waiting_requests
    assert waited >= 5
    assert took_s < (waited - 1) * READING_S, "it read what waited for it"
