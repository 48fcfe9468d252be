"""A simulated cluster without faults: every stream exact, everything given back, the same seed the same story."""

from tests.sim.asks import random_asks
from tests.sim.client import Manners
from tests.sim.play import play
from tests.sim.world import World


def test_every_stream_is_exact_and_nothing_is_left() -> None:
    async def story(world: World) -> None:
        for ask in random_asks(world.loop.random, 12, max_pages=56):
            world.ask(ask, Manners(starts_at=world.loop.random.random()))

    for seed in range(5):
        play(story, seed=seed)
