"""Stories with one thing in them each, where the seed is not asked."""

import asyncio
from dataclasses import replace

from tests.sim.client import Leaving, Manners
from tests.sim.invariants import unrest
from tests.sim.oracle import Ask
from tests.sim.play import Story
from tests.sim.world import CONFIG, World

LONG = Ask(name="long", prompt=tuple(range(30)), max_tokens=60, n=2, temperature=1.0)
"""Read remotely, written for more than a second."""


async def quiet_s(world: World) -> float:
    """Seconds until nothing is held any more, at most five."""
    began = world.loop.time()
    while unrest(world) and world.loop.time() < began + 5.0:
        await asyncio.sleep(0.01)
    return world.loop.time() - began


def leave(leaving: Leaving, after_s: float, within_s: float = 0.15) -> Story:
    """A client goes away in the middle; its pages come back long before its answer would have been written."""

    async def story(world: World) -> None:
        world.ask(LONG, Manners(leaves_at=after_s, leaving=leaving))
        await asyncio.sleep(after_s + 0.01)
        held_s = await quiet_s(world)
        assert held_s <= within_s, f"pages were held for {held_s:.2f} s after their client left"

    return story


def disturb(name: str, after_s: float, kind: str) -> Story:
    """One process is killed or frozen while it serves a long answer."""

    async def story(world: World) -> None:
        world.ask(LONG, Manners())
        await asyncio.sleep(after_s)
        getattr(world, kind)(name)
        await asyncio.sleep(3.0)
        world.resume(name)
        world.start(name)
        world.wake_zombies()
        await world.wait_serving()

    return story


ENDLESS = Ask(name="endless", prompt=tuple(range(30)), max_tokens=180)
"""Written for four seconds, if nobody ends it."""


def leave_unheard(kind: str, lasts_s: float) -> Story:
    """A client leaves while the decode worker cannot be told. It is told as soon as it can be."""

    async def story(world: World) -> None:
        world.ask(ENDLESS, Manners(leaves_at=0.4))
        await asyncio.sleep(0.3)
        if kind == "cut":
            world.cut("decode-0", "router-0")
        else:
            world.pause("decode-0")
        await asyncio.sleep(lasts_s)
        world.heal_all()
        world.resume("decode-0")
        await asyncio.sleep(1.2)
        held_s = await quiet_s(world)
        assert held_s == 0.0, f"pages were held for {held_s:.2f} s more after the worker could have been told"

    return story


async def leave_amid_landing(world: World) -> None:
    """A client leaves while its pages land; running answers take those pages for their next tokens at once."""
    for number in range(6):
        prompt = tuple(range(number, number + 9))
        growing = Ask(name=f"growing-{number}", prompt=prompt, max_tokens=30, seed=number, temperature=1.0)
        world.ask(growing, Manners(starts_at=0.02 * number))
    leaving = Ask(name="leaving", prompt=tuple(range(100, 176)), max_tokens=8)
    world.ask(leaving, Manners(starts_at=0.3, leaves_at=0.34))


async def replace_amid_placement(world: World) -> None:
    """A worker is replaced while a request is on its way to it: the channel closes under the call."""
    for name in world.names:
        world.slow(name, 0.05)
    world.ask(LONG, Manners(starts_at=0.5))
    await asyncio.sleep(0.63)
    world.replace("decode-0")
    await asyncio.sleep(2.0)
    world.heal_all()
    world.wake_zombies()


SLOW_LANDING = replace(CONFIG, transfer=replace(CONFIG.transfer, land_bytes=64))
"""A page at a time."""
