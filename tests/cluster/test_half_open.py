"""Connections that do not end: a worker behind a network that swallows everything, and tells nobody."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.cluster.curtain import Curtain
from tests.cluster.drive import PAGE_SIZE, SLOW_SIM, check_all, prompts
from tests.cluster.house import House
from tests.cluster.ports import stable_port

pytestmark = [pytest.mark.cluster, pytest.mark.calm, pytest.mark.asyncio(loop_scope="module")]

LISTEN, ADVERTISED = stable_port(), stable_port()
HOUSE = {
    "decode": 2,
    "settings": SLOW_SIM,
    "of_process": {"decode-0": (f"listen.port={LISTEN}", f"listen.advertise=127.0.0.1:{ADVERTISED}")},
}
SEED = 23_001
DOWN_S = 6.0
"""Longer than a lease, pings and the patience for a silent stream."""
NUM_HIT = 4
SILENCE_S = 5.0
"""The bar of F11: found out within the deadlines, so within that of a death."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def curtain() -> AsyncIterator[Curtain]:
    """In place before the cluster starts: decode-0 is known by this address alone."""
    async with Curtain(ADVERTISED, LISTEN) as made:
        yield made


@pytest.mark.timeout(300)
async def test_answers_of_a_worker_behind_a_network_that_swallows_everything_go_on_elsewhere(
    cluster: House, curtain: Curtain
) -> None:
    """F11. It lives, heartbeats reach Redis, and its connections stand: only the silence tells. Its work there ends,
    and when the network is back it is used again."""
    control = prompts(16, length=4 * PAGE_SIZE, max_tokens=20, seed=SEED)
    asks = prompts(32, length=4 * PAGE_SIZE, max_tokens=250, seed=SEED + 1)
    told_before = await cluster.ask_all(control)
    running = asyncio.create_task(cluster.ask_all(asks))
    await cluster.until(lambda: is_used(cluster))
    curtain.is_down = True
    await asyncio.sleep(DOWN_S)
    curtain.is_down = False
    told = await running
    check_all([*control, *asks], [*told_before, *told])
    silence, usual = (max(each.longest_silence_s for each in group) for group in (told, told_before))
    print(f"F11: silence {silence:.2f} s (undisturbed {usual:.2f} s)")
    assert silence <= SILENCE_S + usual
    again = prompts(32, length=4 * PAGE_SIZE, max_tokens=100, seed=SEED + 2)
    running = asyncio.create_task(cluster.ask_all(again))
    await cluster.until(lambda: is_used(cluster))
    check_all(again, await running)


async def is_used(cluster: House) -> bool:
    """By the router's word: ours would have to pass the curtain."""
    loads = {each.worker.worker_id: each.load for each in (await cluster.view()).workers}
    return "decode-0" in loads and loads["decode-0"].running_sequences >= NUM_HIT
