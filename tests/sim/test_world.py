"""One fault at a time, or none: every stream exact, everything given back."""

import pytest

from tests.sim.asks import random_asks
from tests.sim.client import Leaving, Manners
from tests.sim.play import play
from tests.sim.stories import disturb, leave, leave_unheard
from tests.sim.world import World


@pytest.mark.parametrize("seed", range(3))
def test_undisturbed_every_stream_is_exact_and_nothing_is_left(seed: int) -> None:
    async def story(world: World) -> None:
        for ask in random_asks(world.loop.random, 12, max_pages=56):
            world.ask(ask, Manners(starts_at=world.loop.random.random()))

    play(story, seed=seed)


@pytest.mark.parametrize("after_s", [0.0005, 0.03, 0.06, 0.09, 0.12, 0.5])
@pytest.mark.parametrize("leaving", Leaving)
def test_a_client_that_leaves_gives_its_pages_back_at_once(leaving: Leaving, after_s: float) -> None:
    """At every stage: before a worker knows, while the prompt is read, while its pages travel, amid the answer."""
    play(leave(leaving, after_s))


@pytest.mark.parametrize("after_s", [0.02, 0.06, 0.1, 0.14, 0.3])
@pytest.mark.parametrize("name", ["prefill-0", "prefill-1", "decode-0", "decode-1"])
@pytest.mark.parametrize("kind", ["kill", "pause", "replace"])
def test_an_answer_outlives_the_workers_that_began_it(kind: str, name: str, after_s: float) -> None:
    play(disturb(name, after_s, kind))


@pytest.mark.parametrize("kind", ["kill", "pause"])
def test_a_router_that_dies_or_stands_still_leaves_nothing_behind(kind: str) -> None:
    play(disturb("router-0", 0.3, kind), routers=2)


@pytest.mark.parametrize(
    ("kind", "lasts_s"), [("cut", 1.2), ("cut", 2.6), ("pause", 1.2), ("pause", 2.6), ("pause", 3.6)]
)
def test_a_cancel_that_was_not_heard_is_said_again(kind: str, lasts_s: float) -> None:
    """Shorter than the pings notice, longer than they do, and longer than the lease in the directory."""
    play(leave_unheard(kind, lasts_s), decode=1)
