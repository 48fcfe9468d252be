"""Every decode worker is restarted while long answers run, with whatever clients and links do meanwhile.

pytest tests/sim/test_rolling.py -k 17                one seed again; its failure prints the end of the trace
pytest tests/sim/test_rolling.py -m slow              the long run
"""

import asyncio
import random
from dataclasses import dataclass, replace

import pytest

from common.config.config import Config
from tests.sim.client import Leaving, Manners
from tests.sim.oracle import EOS, VOCAB_SIZE, Ask
from tests.sim.play import play
from tests.sim.world import CONFIG, World

FIXED = (3, 17, 210)

LONG = range(300, 420)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What a seed makes of the cluster."""

    decode: int
    prefill: int
    routers: int
    config: Config


def sizes(chance: random.Random) -> Sizes:
    decode = chance.choice((2, 3))
    engine = replace(
        CONFIG.engine,
        num_pages=chance.choice((256, 512, 2048)),
        max_sequences=chance.choice((8, 16, 64)),
        max_batch_tokens=64,
    )
    liveness = replace(CONFIG.liveness, drain_s=chance.choice((1.0, 2.0, 5.0)))
    router = replace(CONFIG.router, max_buffered_tokens=chance.choice((32, 512)))
    config = replace(CONFIG, engine=engine, liveness=liveness, router=router)
    return Sizes(decode=decode, config=config, prefill=chance.choice((1, 2)), routers=chance.choice((1, 1, 2)))


def an_ask(chance: random.Random, name: str) -> Ask:
    n, ending = chance.choice((1, 1, 2, 3)), chance.random()
    return Ask(
        name=name,
        prompt=tuple(chance.randrange(EOS) for _ in range(chance.choice((5, 30, 40)))),
        max_tokens=chance.choice((60, 150, 250)),
        n=n,
        temperature=chance.choice((0.0, 1.0)),
        seed=chance.randrange(1, 1 << 40),
        stop_tokens=tuple(chance.sample(range(VOCAB_SIZE), 4)) if ending < 0.25 else (),
        stop_strings=(f"{chance.randrange(100, 400)} ",) if ending > 0.6 else (),
        ignore_eos=chance.random() < 0.5,
    )


def manners(chance: random.Random) -> Manners:
    kind, starts_at = chance.random(), 1.5 * chance.random()
    if kind < 0.2:
        return Manners(starts_at=starts_at, read_every_s=0.05 + 0.3 * chance.random())
    if kind < 0.35:
        leaves_at = 4 * chance.random()
        return Manners(starts_at=starts_at, leaves_at=leaves_at, leaving=chance.choice(tuple(Leaving)))
    if kind < 0.45:
        return Manners(starts_at=starts_at, deadline_s=0.5 + 5 * chance.random())
    return Manners(starts_at=starts_at)


async def restart(world: World, name: str, at_s: float) -> None:
    await asyncio.sleep(at_s)
    await world.retire(name)
    world.start(name)


async def disturb(world: World, chance: random.Random) -> None:
    """Links between workers lose or damage what they carry, for a while."""
    await asyncio.sleep(3 * chance.random())
    fault = chance.choice(("drop", "flip"))
    setattr(world.data.faults, fault, 0.3)
    await asyncio.sleep(2 * chance.random())
    setattr(world.data.faults, fault, 0.0)


def roll(seed: int) -> None:
    """One seed, one story."""
    chance = random.Random(f"rolling {seed}")
    made = sizes(chance)

    async def story(world: World) -> None:
        for number in range(chance.randrange(4, 10)):
            world.ask(an_ask(chance, f"long-{number}"), manners(chance))
        names = [f"decode-{number}" for number in range(made.decode)]
        chance.shuffle(names)
        at_s = 0.3 + chance.random()
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(restart(world, name, at_s))
                at_s += chance.choice((0.1, 0.8, 2.5, 6.0))
            if chance.random() < 0.4:
                group.create_task(restart(world, "prefill-0", 0.2 + 3 * chance.random()))
            if chance.random() < 0.4:
                group.create_task(disturb(world, chance))

    play(story, seed=seed, config=made.config, prefill=made.prefill, decode=made.decode, routers=made.routers)


@pytest.mark.parametrize("seed", FIXED)
def test_rolling_restarts_lose_nothing_and_end(seed: int) -> None:
    roll(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", LONG)
def test_long_rolling_restarts(seed: int) -> None:
    roll(seed)
