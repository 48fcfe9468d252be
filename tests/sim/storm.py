"""The story of one seed: a dozen clients of all manners, and a nemesis."""

import random

from tests.sim.asks import random_asks
from tests.sim.client import Leaving, Manners
from tests.sim.nemesis import Fault, schedule, unleash
from tests.sim.play import play
from tests.sim.trace import Trace
from tests.sim.world import World

CLIENTS = range(8, 15)
ARRIVALS_S = 4.0


def storm(seed: int, *, only: tuple[int, ...] | None = None) -> Trace:
    """Plays one seed. `only` picks faults by their number in the schedule: to find the one that matters."""

    async def story(world: World) -> None:
        chance = random.Random(f"clients {seed}")
        for ask in random_asks(chance, chance.choice(CLIENTS)):
            world.ask(ask, _manners(chance))
        faults = schedule(seed, world.names, world.worker_names)
        await unleash(world, _picked(faults, only))

    return play(story, seed=seed, routers=1 + seed % 2)


def _picked(faults: tuple[Fault, ...], only: tuple[int, ...] | None) -> tuple[Fault, ...]:
    return faults if only is None else tuple(faults[number] for number in only)


def _manners(chance: random.Random) -> Manners:
    """Most wait politely for the end."""
    kind = chance.random()
    starts_at = chance.random() * ARRIVALS_S
    if kind < 0.1:
        return Manners(starts_at=starts_at, deadline_s=0.05 + chance.random() * 1.5)
    if kind < 0.3:
        leaving = chance.choice(tuple(Leaving))
        return Manners(starts_at=starts_at, leaves_at=chance.random() * 1.0, leaving=leaving)
    if kind < 0.4:
        return Manners(starts_at=starts_at, read_every_s=0.1 * chance.random())
    return Manners(starts_at=starts_at)
