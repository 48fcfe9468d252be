"""Goal: who floods waits, and who is quiet or urgent is read at once, in whatever way somebody floods. Method: a whole
cluster in virtual time, whose steps take as long as their tokens; nothing of a time is the machine's other work.

What may be added to the time alone is said in docs/admission.md: the rest of a step on each of both workers.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from common.core.request import Priority
from common.engine.sim import SimSpeed
from tests.sim.client import Client, Manners
from tests.sim.oracle import EOS, Ask
from tests.sim.timeloop import TimeLoop, simulate
from tests.sim.world import CONFIG, world

CHUNK = 16
SPEED = SimSpeed(step_s=0.004, new_token_s=0.001)
"""So a chunk takes 20 ms."""
STEP_S = SPEED.step_s + 2 * CHUNK * SPEED.new_token_s
"""The longest step of a prefill worker, and longer than any of a decode worker here."""

HOUSE = replace(
    CONFIG,
    engine=replace(
        CONFIG.engine, num_pages=4096, max_batch_tokens=2 * CHUNK, chunk_tokens=CHUNK, max_sequences=12, page_size=16
    ),
    model=replace(CONFIG.model, max_context=4096),
    transfer=replace(CONFIG.transfer, staging_count=8, staging_bytes=4096, land_bytes=4096),
    router=replace(CONFIG.router, local_prompt_tokens=8),
)

Rush = Sequence[tuple[float, Ask]]


def ask(tenant: str, prompt_tokens: int, max_tokens: int, priority: Priority = Priority.STANDARD) -> Ask:
    return Ask(name=tenant, prompt=(0,) * prompt_tokens, max_tokens=max_tokens, tenant=tenant, priority=priority)


QUIET = ask("quiet", 8 * CHUNK, 8)
URGENT = ask("urgent", CHUNK, 4, Priority.INTERACTIVE)

FLOODS = {
    "as large as the quiet one's": (ask("flood", 8 * CHUNK, 8), 33.0),
    "huge prompts": (ask("flood", 64 * CHUNK, 4), 4.0),
    "many tiny ones": (ask("flood", 12, 2), 80.0),
    "long answers": (ask("flood", 2 * CHUNK, 100), 15.0),
}
"""By how it floods: what is asked, and how often in a second: more than the whole cluster can do, ten times a half of
it where requests are of a size."""


def rush(chance: random.Random, each: Ask, rate: float, end: float) -> Rush:
    """Arrivals at random."""
    arrivals, at = [], 0.2
    while (at := at + chance.expovariate(rate)) < end:
        arrivals.append((at, each))
    return arrivals


def play(arrivals: Rush) -> list[Client]:
    """Everybody's end, in order of arrival. No two prompts share a page."""
    clients: list[Client] = []

    async def program(loop: TimeLoop) -> None:
        chance = random.Random(7)
        async with world(loop, prefill=1, decode=1, config=HOUSE, speed=SPEED) as made:
            await asyncio.sleep(1.0)
            for number, (at, each) in enumerate(sorted(arrivals, key=lambda arrival: arrival[0])):
                prompt = tuple(chance.randrange(EOS) for _ in each.prompt)
                own = replace(each, name=f"{each.tenant}-{number}", prompt=prompt)
                clients.append(made.ask(own, Manners(starts_at=at)))
            await made.wait_clients()

    simulate(program, limit_s=600.0)
    return clients


def starts_s(clients: Sequence[Client], tenant: str) -> list[float]:
    """Of everybody of one tenant, the time to the first token; nobody of them is refused."""
    mine = [client.told for client in clients if client.ask.tenant == tenant]
    assert [told.error for told in mine if told.error is not None] == []
    return [told.answer.timings()["ttft_s"] for told in mine]


def calm(each: Ask, count: int, every_s: float) -> Rush:
    """One now and one then. The first comes before any flood: no place is kept for whoever was never heard of."""
    chance = random.Random(4401)
    later = [1.5 + number * every_s + chance.uniform(0, every_s / 2) for number in range(count - 1)]
    return [(at, each) for at in (0.0, *later)]


@pytest.mark.parametrize("how", FLOODS)
def test_a_flood_leaves_a_quiet_tenant_its_slowest_start(how: str) -> None:
    """The bar: p99 within 1.5 times of that alone. Here the slowest of all. The quiet one takes a sixth of the reading,
    a third of its share."""
    mine = calm(QUIET, 8, 0.9)
    flood, rate = FLOODS[how]
    alone = max(starts_s(play(mine), "quiet"))
    clients = play([*mine, *rush(random.Random(5), flood, rate, mine[-1][0])])
    beside = max(starts_s(clients, "quiet"))
    print(f"alone {alone * 1e3:.0f} ms, beside {len(clients) - len(mine)} of {how} {beside * 1e3:.0f} ms")
    assert beside <= 1.5 * alone
    assert beside <= alone + 2 * STEP_S


def test_nor_do_two_tenants_that_flood_together_one_of_them_with_huge_prompts() -> None:
    mine = calm(QUIET, 6, 0.9)
    alone = max(starts_s(play(mine), "quiet"))
    crowd = [
        arrival
        for number in range(2)
        for arrival in rush(
            random.Random(number), ask(f"flood-{number}", (64 if number % 2 else 8) * CHUNK, 8), 8.0, mine[-1][0]
        )
    ]
    beside = max(starts_s(play([*mine, *crowd]), "quiet"))
    print(f"alone {alone * 1e3:.0f} ms, beside two that flood {beside * 1e3:.0f} ms")
    assert beside <= 1.5 * alone


def test_an_urgent_short_request_overtakes_a_hundred_long_ones_that_wait() -> None:
    """The bar: it starts within twice its idle time to the first token plus one chunk."""
    long = ask("crowd", 12 * CHUNK, 8, Priority.BATCH)
    mine = [(0.5 + number * 0.7, URGENT) for number in range(10)]
    idle = max(starts_s(play(mine), "urgent"))
    beside = max(starts_s(play([*mine, *[(0.0, long)] * 100]), "urgent"))
    print(f"idle {idle * 1e3:.0f} ms, behind 100 long ones {beside * 1e3:.0f} ms")
    assert beside <= 2 * idle + SPEED.step_s + CHUNK * SPEED.new_token_s
