"""Several routers want the same last pages at once: every stream exact, no page counted twice, none left behind.

No router knows what another one is about to send; a worker's word is the only one that counts. What it refuses waits
its turn with its own router, and every router comes to its turns.
"""

import asyncio
from dataclasses import replace

import pytest

from common.observe import catalogue
from tests.sim.client import Leaving, Manners
from tests.sim.oracle import Ask
from tests.sim.play import play
from tests.sim.world import CONFIG, World

NUM_ROUTERS = 3
NUM_ASKS = 12
TIGHT = replace(CONFIG, engine=replace(CONFIG.engine, num_pages=24))
"""Room for two of the asks below, and for a third only by half."""


def greedy(number: int) -> Ask:
    return Ask(name=f"r{number}", prompt=tuple(range(number, number + 24)), max_tokens=16, temperature=1.0)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("prefill", [0, 1])
def test_routers_that_race_for_the_last_pages_all_come_to_their_turn(prefill: int, seed: int) -> None:
    async def story(world: World) -> None:
        for number in range(NUM_ASKS):
            world.ask(greedy(number), Manners())
        await world.wait_clients()
        served = [router.metrics.value(catalogue.REQUESTS_FINISHED) for router in world.routers.values()]
        assert sum(served) == NUM_ASKS
        assert min(served) > 0, "the others took every place"
        refused = sum(router.metrics.total(catalogue.RETRIES) for router in world.routers.values())
        assert refused > 0, "nobody raced"

    play(story, seed=seed, routers=NUM_ROUTERS, prefill=prefill, decode=1, config=TIGHT)


def test_a_router_that_dies_amid_the_race_takes_nobodys_place_with_it() -> None:
    """What it held is given back with its lease, and the others' streams never notice."""

    async def story(world: World) -> None:
        for number in range(NUM_ASKS):
            world.ask(greedy(number), Manners())
        world.loop.call_later(0.2, world.kill, "router-1")
        await world.wait_clients()

    play(story, routers=NUM_ROUTERS, decode=1, config=TIGHT)


def test_a_flood_that_hangs_up_at_once_holds_up_nobody_who_stays() -> None:
    """A hundred calls that are opened and cancelled, some before the router has looked at them: whoever asks next is
    served as if nobody had been there."""

    async def story(world: World) -> None:
        for number in range(100):
            leaving = tuple(Leaving)[number % len(Leaving)]
            world.ask(greedy(number), Manners(leaves_at=0.0002 * (number % 50), leaving=leaving))
        await asyncio.sleep(0.05)
        began = world.loop.time()
        world.ask(replace(greedy(0), name="stays"), Manners())
        await world.wait_clients()
        assert world.loop.time() - began < 2.0

    play(story, routers=2, decode=1, config=TIGHT)
