"""What goes wrong, and when: a schedule made from a seed before the story begins, and carried out while it runs."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from tests.sim.world import World


class Kind(StrEnum):
    """Kinds of faults. Each lasts for a while and is then repaired."""

    KILL = "kill"
    """A process dies and is started again."""
    PAUSE = "pause"
    """A process stands still, as under SIGSTOP or a swapped-out machine."""
    REPLACE = "replace"
    """A frozen worker is replaced by another incarnation, and wakes up as a zombie."""
    RETIRE = "retire"
    """A process drains and leaves, and is started again: a rolling restart."""
    CUT = "cut"
    """Two processes cannot reach each other."""
    SLOW = "slow"
    """Packets of one process take long."""
    DATA_SLOW = "data_slow"
    """Page runs take long."""
    DATA_DROP = "data_drop"
    """Some page runs never arrive."""
    DATA_FLIP = "data_flip"
    """A bit of some page runs is flipped."""
    REDIS_STOP = "redis_stop"
    """Redis dies and comes back empty."""
    REDIS_PAUSE = "redis_pause"
    """Redis stands still; what it was told meanwhile, it does when it goes on."""


WEIGHTS = {
    Kind.KILL: 5,
    Kind.PAUSE: 4,
    Kind.REPLACE: 1,
    Kind.RETIRE: 3,
    Kind.CUT: 3,
    Kind.SLOW: 2,
    Kind.DATA_SLOW: 2,
    Kind.DATA_DROP: 2,
    Kind.DATA_FLIP: 2,
    Kind.REDIS_STOP: 1,
    Kind.REDIS_PAUSE: 1,
}

MAX_LASTS_S = 4.0
"""Above the suspicion and the lease, so that both sides of each are met."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong. `amount` is a probability or seconds, by kind."""

    at: float
    lasts_s: float
    kind: Kind
    target: str
    other: str
    amount: float


def schedule(seed: int, names: Sequence[str], workers: Sequence[str], *, span_s: float) -> tuple[Fault, ...]:
    """Up to seven faults that begin within `span_s`, in order of their time."""
    chance = random.Random(f"nemesis {seed}")
    faults = [_fault(chance, names, workers, span_s) for _ in range(chance.randrange(1, 8))]
    return tuple(sorted(faults, key=lambda fault: fault.at))


def _fault(chance: random.Random, names: Sequence[str], workers: Sequence[str], span_s: float) -> Fault:
    kind = chance.choices(tuple(WEIGHTS), tuple(WEIGHTS.values()))[0]
    pool = workers if kind in (Kind.REPLACE, Kind.CUT) else names
    target = chance.choice(pool)
    return Fault(
        at=chance.random() * span_s,
        lasts_s=chance.choice((0.05, 0.3, 1.0, 2.5, MAX_LASTS_S)) * (0.5 + 0.5 * chance.random()),
        kind=kind,
        target=target,
        other=chance.choice([name for name in names if name != target]),
        amount=chance.random(),
    )


async def unleash(world: World, faults: Sequence[Fault]) -> None:
    """Every fault at its time. Returns when all are repaired and every process serves again."""
    async with asyncio.TaskGroup() as group:
        for fault in faults:
            group.create_task(_one(world, fault), name=f"fault {fault.kind} {fault.target}")
    world.heal_all()
    for name in world.names:
        world.start(name)
    world.wake_zombies()
    await world.wait_serving()


async def _one(world: World, fault: Fault) -> None:
    await asyncio.sleep(fault.at)
    match fault.kind:
        case Kind.KILL | Kind.PAUSE | Kind.REPLACE | Kind.RETIRE:
            await _trouble_process(world, fault)
        case Kind.CUT | Kind.SLOW:
            await _trouble_links(world, fault)
        case Kind.DATA_SLOW | Kind.DATA_DROP | Kind.DATA_FLIP:
            await _trouble_data(world, fault)
        case Kind.REDIS_STOP | Kind.REDIS_PAUSE:
            await _trouble_redis(world, fault)
        case _:
            assert_never(fault.kind)


async def _trouble_process(world: World, fault: Fault) -> None:
    name = fault.target
    match fault.kind:
        case Kind.KILL:
            world.kill(name)
        case Kind.PAUSE:
            world.pause(name)
        case Kind.REPLACE:
            world.replace(name)
        case _:
            await world.retire(name)
    await asyncio.sleep(fault.lasts_s)
    world.resume(name)
    world.start(name)
    world.wake_zombies()


async def _trouble_links(world: World, fault: Fault) -> None:
    if fault.kind is Kind.SLOW:
        world.slow(fault.target, 0.2 * fault.amount)
    else:
        world.cut(fault.target, fault.other)
    await asyncio.sleep(fault.lasts_s)
    if fault.kind is Kind.SLOW:
        world.slow(fault.target, 0.0)
    else:
        world.heal(fault.target, fault.other)


async def _trouble_data(world: World, fault: Fault) -> None:
    faults, amount = world.data.faults, fault.amount
    world.trace.say(f"{fault.kind} {amount:.2f}")
    match fault.kind:
        case Kind.DATA_SLOW:
            faults.delay_s = 1.5 * amount
        case Kind.DATA_DROP:
            faults.drop = 0.6 * amount
        case _:
            faults.flip = 0.6 * amount
    await asyncio.sleep(fault.lasts_s)
    faults.delay_s = faults.drop = faults.flip = 0.0


async def _trouble_redis(world: World, fault: Fault) -> None:
    world.trace.say(f"{fault.kind}")
    if fault.kind is Kind.REDIS_STOP:
        world.redis.stop()
    else:
        world.redis.pause()
    await asyncio.sleep(fault.lasts_s)
    world.redis.start()
    world.redis.resume()
    world.trace.say("redis answers")
