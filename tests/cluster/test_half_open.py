"""Connections that do not end: a worker behind a network that swallows everything, and tells nobody."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from tests.cluster.curtain import Curtain
from tests.cluster.drive import PAGE_SIZE, SLOW_SIM, check_all, prompts
from tests.cluster.house import House
from tests.cluster.ports import stable_port

pytestmark = [pytest.mark.cluster, pytest.mark.calm, pytest.mark.asyncio(loop_scope="module")]

PORTS = {name: (stable_port(), stable_port()) for name in ("decode-0", "decode-1")}
"""Where each listens, and where it says that it does: a curtain stands between."""
NUM_ASKS, NUM_PLACES, NUM_MANY = 32, 40, 60
"""One worker has places for all, so that the other may be lost; not for many."""
HOUSE = {
    "decode": len(PORTS),
    "settings": (*SLOW_SIM, f"engine.max_sequences={NUM_PLACES}"),
    "of_process": {
        name: (f"listen.port={listen}", f"listen.advertise=127.0.0.1:{advertised}")
        for name, (listen, advertised) in PORTS.items()
    },
}
SEED = 23_001
DOWN_S = 6.0
"""Longer than a lease, pings and the patience for a silent stream."""
NUM_HIT = 4
SILENCE_S = 5.0
"""The bar of F11: found out within the deadlines, so within that of a death."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def curtains() -> AsyncIterator[Mapping[str, Curtain]]:
    """In place before the cluster starts: decode workers are known by these addresses alone."""
    async with AsyncExitStack() as stack:
        made = {name: Curtain(advertised, listen) for name, (listen, advertised) in PORTS.items()}
        for curtain in made.values():
            await stack.enter_async_context(curtain)
        yield made


@pytest.mark.timeout(300)
async def test_answers_of_a_worker_behind_a_network_that_swallows_everything_go_on_elsewhere(
    cluster: House, curtains: Mapping[str, Curtain]
) -> None:
    """F11. It lives, heartbeats reach Redis, and its connections stand: only the silence tells. Its work there ends,
    and when the network is back it is used again."""
    control = prompts(16, length=4 * PAGE_SIZE, max_tokens=20, seed=SEED)
    asks = prompts(NUM_ASKS, length=4 * PAGE_SIZE, max_tokens=250, seed=SEED + 1)
    told_before = await cluster.ask_all(control)
    running = asyncio.create_task(cluster.ask_all(asks))
    busiest = await used(cluster, PORTS)
    curtains[busiest].is_down = True
    await asyncio.sleep(DOWN_S)
    curtains[busiest].is_down = False
    told = await running
    check_all([*control, *asks], [*told_before, *told])
    silence, usual = (max(each.longest_silence_s for each in group) for group in (told, told_before))
    print(f"F11: silence {silence:.2f} s (undisturbed {usual:.2f} s)")
    assert silence <= SILENCE_S + usual
    await cluster.wait_whole()
    again = prompts(NUM_MANY, length=4 * PAGE_SIZE, max_tokens=100, seed=SEED + 2)
    running = asyncio.create_task(cluster.ask_all(again, at_once=NUM_MANY))
    await used(cluster, [busiest])
    check_all(again, await running)


async def used(cluster: House, names: Iterable[str]) -> str:
    """Which of these writes most, once it writes some: by the router's word, for ours would have to pass a curtain."""
    most = ""

    async def is_used() -> bool:
        nonlocal most
        loads = {each.worker.worker_id: each.load.running_sequences for each in (await cluster.view()).workers}
        most = max(names, key=lambda name: loads.get(name, 0))
        return loads.get(most, 0) >= NUM_HIT

    await cluster.until(is_used)
    return most
