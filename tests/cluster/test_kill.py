"""Workers that die at once, by SIGKILL, with requests on them: the streams go on elsewhere, token for token."""

import asyncio
from dataclasses import replace

import pytest

from services.local.topology import Kind
from tests.cluster.drive import (
    PAGE_BYTES,
    PAGE_SIZE,
    SLOW_SIM,
    check_all,
    counter,
    first_token_s,
    prompts,
    running_on,
)
from tests.cluster.house import CLOCK, House
from tests.cluster.ports import stable_port

pytestmark = [pytest.mark.cluster, pytest.mark.calm, pytest.mark.asyncio(loop_scope="module")]

WORKERS = ("prefill-0", "prefill-1", "decode-0", "decode-1")
HOUSE = {
    "prefill": 2,
    "decode": 2,
    "settings": SLOW_SIM,
    "of_process": {name: (f"listen.port={stable_port()}",) for name in WORKERS},
}
SEED = 4101
SILENCE_S = 5.0
"""The bar of F1: a client sees nothing for at most this long."""
LEASE_S = 3.0


async def test_thirty_two_streams_survive_the_death_of_one_of_two_decode_workers(cluster: House) -> None:
    """F1: both routes, greedy and sampled, some with two choices."""
    control = prompts(32, length=40, max_tokens=40, seed=SEED)
    pairs = prompts(4, length=90, max_tokens=150, seed=SEED + 3)
    asks = [
        *prompts(12, length=10, max_tokens=150, seed=SEED + 1),
        *prompts(12, length=90, max_tokens=150, seed=SEED + 2),
        *(replace(ask, n=2, temperature=1.0, seed=SEED + number) for number, ask in enumerate(pairs)),
    ]
    told_before = await cluster.ask_all(control)
    placed_before = (await cluster.view()).figures["placements"]
    epoch = (await cluster.status(cluster.worker(Kind.DECODE))).worker.epoch
    running = asyncio.create_task(cluster.ask_all(asks))

    async def all_run() -> bool:
        return await running_on(cluster, Kind.DECODE, 0) + await running_on(cluster, Kind.DECODE, 1) == 32

    await cluster.until(all_run)
    hit = await running_on(cluster, Kind.DECODE, 0)
    killed_at = CLOCK.monotonic()
    cluster.kill(Kind.DECODE, 0)
    told = await running
    extra = (await cluster.view()).figures["placements"] - placed_before - len(asks)

    async def is_forgotten() -> bool:
        return all(worker.worker.epoch != epoch for worker in (await cluster.view()).workers)

    await cluster.until(is_forgotten, timeout_s=max(0.1, killed_at + LEASE_S + 1.0 - CLOCK.monotonic()))
    check_all([*control, *asks], [*told_before, *told])
    silence, usual = (max(each.longest_silence_s for each in group) for group in (told, told_before))
    print(
        f"F1: {hit} of 32 streams hit, silence {silence:.2f} s (undisturbed {usual:.2f} s), {extra:.0f} re-placements"
    )
    assert hit > 0
    assert silence <= SILENCE_S + usual
    assert extra <= hit + 3, "1.6 attempts per request when half of them are hit"


@pytest.mark.parametrize("pages_read", [0, 2])
async def test_a_prompt_is_read_again_when_its_prefill_worker_dies(cluster: House, pages_read: int) -> None:
    """F3: before it starts, and in the middle of its chunks."""
    ask = prompts(1, length=20 * PAGE_SIZE, max_tokens=8, seed=SEED + 10 + pages_read)[0]
    control = prompts(1, length=20 * PAGE_SIZE, max_tokens=8, seed=SEED + 20 + pages_read)[0]
    told_before = await cluster.ask(control)
    running = asyncio.create_task(cluster.ask(ask))
    reader = await reader_of(cluster, pages_read)
    cluster.kill(Kind.PREFILL, reader)
    told = await running
    check_all([control, ask], [told_before, told])
    usual, extra = first_token_s(told_before), first_token_s(told) - first_token_s(told_before)
    print(f"F3: killed after {pages_read} pages, first token {extra:.2f} s later than {usual:.2f} s")
    assert extra <= 2.0 + 2 * usual


@pytest.mark.parametrize("landed", [0, 1, 9, 10])
async def test_decode_emits_nothing_from_a_transfer_that_broke(cluster: House, landed: int) -> None:
    """F4: prefill dies after `landed` of 10 pages; the promise is kept by another one, or given back."""
    ask = prompts(1, length=10 * PAGE_SIZE, max_tokens=8, seed=SEED + 30 + landed)[0]
    before = await counter(cluster, Kind.DECODE, "landed_bytes")
    running = asyncio.create_task(cluster.ask(ask))
    reader = await reader_of(cluster, 0)

    async def has_landed() -> bool:
        return await counter(cluster, Kind.DECODE, "landed_bytes") - before >= landed * PAGE_BYTES

    await cluster.until(has_landed)
    cluster.kill(Kind.PREFILL, reader)
    told = await running
    check_all([ask], [told])
    seen = (await counter(cluster, Kind.DECODE, "landed_bytes") - before) / PAGE_BYTES
    print(f"F4: killed when {landed} pages had landed: {seen:.0f} pages landed in all")


@pytest.mark.parametrize("landed", [1, 6])
async def test_pages_that_prefill_still_holds_are_not_computed_again(cluster: House, landed: int) -> None:
    """F5: decode dies in the middle of a transfer; the prompt goes on to the other one, computed once."""
    ask = prompts(1, length=10 * PAGE_SIZE, max_tokens=8, seed=SEED + 50 + landed)[0]
    before = await landed_by_worker(cluster)
    computed = await counter(cluster, Kind.PREFILL, "computed_tokens")
    running = asyncio.create_task(cluster.ask(ask))
    target: list[int] = []

    async def has_landed() -> bool:
        now = await landed_by_worker(cluster)
        target[:] = [index for index in range(2) if now[index] - before[index] >= landed * PAGE_BYTES]
        return bool(target)

    await cluster.until(has_landed)
    read = await counter(cluster, Kind.PREFILL, "computed_tokens") - computed
    cluster.kill(Kind.DECODE, target[0])
    told = await running
    check_all([ask], [told])
    spent = await counter(cluster, Kind.PREFILL, "computed_tokens") - computed
    print(f"F5: killed after {landed} pages ({read:.0f} tokens read): {spent:.0f} prompt tokens computed for 160")
    assert spent <= len(ask.tokens) + 2 * PAGE_SIZE


async def test_a_worker_that_returns_on_its_old_address_is_somebody_new(cluster: House) -> None:
    """F8: every worker here has a fixed port. Peers drop what they knew, and the first transfer afterwards works."""
    stem = prompts(1, length=8 * PAGE_SIZE, max_tokens=4, seed=SEED + 70)[0]
    check_all([stem], [await cluster.ask(stem)])
    owned_before = sum(worker.owned_pages for worker in (await cluster.view()).workers)
    old = [(await cluster.status(process)).worker for process in cluster.workers()]
    killed_at = CLOCK.monotonic()
    for number in range(2):
        cluster.kill(Kind.PREFILL, number)
        cluster.kill(Kind.DECODE, number)
    await cluster.wait_whole()
    back_s = CLOCK.monotonic() - killed_at
    new = [(await cluster.status(process)).worker for process in cluster.workers()]
    assert [worker.address for worker in new] == [worker.address for worker in old]
    assert not {worker.epoch for worker in new} & {worker.epoch for worker in old}
    told = await cluster.ask(stem)
    check_all([stem], [told])
    assert owned_before > 0
    assert told.answer.usage.cached_tokens == 0, "an old entry produced a hit"
    assert await counter(cluster, Kind.DECODE, "hits") == 0
    print(f"F8: all four workers back on their addresses after {back_s:.1f} s (lease {LEASE_S:.0f} s)")


async def reader_of(cluster: House, pages: int) -> int:
    """The prefill worker that has begun the one prompt there is, once it has computed `pages` of it."""
    before = [each["computed_tokens"] for each in await cluster.counters(Kind.PREFILL)]
    found: list[int] = []

    async def has_begun() -> bool:
        for number, process in enumerate(cluster.cluster.of(Kind.PREFILL)):
            status = await cluster.status(process)
            is_busy = status.load.running_sequences + status.load.waiting_requests > 0
            if is_busy and status.counters["computed_tokens"] - before[number] >= pages * PAGE_SIZE:
                found.append(number)
        return bool(found)

    await cluster.until(has_begun)
    return found[0]


async def landed_by_worker(cluster: House) -> list[float]:
    return [each["landed_bytes"] for each in await cluster.counters(Kind.DECODE)]
