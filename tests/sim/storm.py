"""The story of one seed: a cluster, a dozen clients of all manners, and a nemesis."""

import random
from dataclasses import dataclass, replace

import pytest

from services.router.policy import reading
from services.router.policy.fetching import Fetching, fetch_to
from services.router.policy.scene import Scene
from services.router.view import WorkerView
from tests.sim.asks import KIN_SHARE, random_asks
from tests.sim.client import Leaving, Manners
from tests.sim.nemesis import Fault, schedule, unleash
from tests.sim.play import play
from tests.sim.trace import Trace
from tests.sim.world import CONFIG, World


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """What a seed makes of the cluster and its clients before anything goes wrong."""

    prefill: int
    decode: int
    routers: int
    num_pages: int
    num_clients: int
    arrivals_s: float
    """All clients arrive within it: together they may want more than there is."""
    drain_s: float
    """The shorter, the more must move, and the more is cut."""
    is_kindred: bool
    """Most prompts begin as others do, and fetching cached pages is thought to cost nothing: there is much of it."""


def weather(seed: int) -> Weather:
    chance = random.Random(f"weather {seed}")
    return Weather(
        prefill=chance.choice((1, 2, 2, 2, 3)),
        decode=chance.choice((1, 2, 2, 2, 3)),
        routers=chance.choice((1, 1, 2)),
        num_pages=chance.choice((24, 32, 56)),
        num_clients=chance.randrange(8, 18),
        arrivals_s=chance.choice((0.3, 1.5, 4.0)),
        drain_s=chance.choice((0.2, 0.6, 1.5, 5.0)),
        is_kindred=seed % 3 == 2,
    )


def storm(
    seed: int, *, only: tuple[int, ...] | None = None, is_ahead: bool = False, layer_groups: int = 1, num_slots: int = 0
) -> Trace:
    """Plays one seed. `only` picks faults by their number in the schedule: to find the one that matters. `is_ahead`:
    steps are launched before the ones before them are collected, on a device that runs them as late as it can.
    `layer_groups`: pages leave in so many parts, the first while the step goes on. `num_slots`: of the rings of shared
    memory that pages go through, gathered where their receiver reads them."""
    sky = weather(seed)
    kin_share = 0.95 if sky.is_kindred else KIN_SHARE

    async def story(world: World) -> None:
        chance = random.Random(f"clients {seed}")
        for ask in random_asks(chance, sky.num_clients, max_pages=sky.num_pages, kin_share=kin_share):
            world.ask(ask, _manners(chance, sky.arrivals_s))
        faults = schedule(seed, world.names, world.worker_names, span_s=sky.arrivals_s + 1.0)
        await unleash(world, _picked(faults, only))

    config = replace(
        CONFIG,
        engine=replace(CONFIG.engine, num_pages=sky.num_pages, async_steps="on" if is_ahead else "off"),
        transfer=replace(CONFIG.transfer, layer_groups=layer_groups),
        liveness=replace(CONFIG.liveness, drain_s=sky.drain_s),
    )
    with pytest.MonkeyPatch.context() as patch:
        if sky.is_kindred:
            patch.setattr(reading, "fetch_to", _fetch_for_nothing)
        return play(
            story,
            seed=seed,
            config=config,
            prefill=sky.prefill,
            decode=sky.decode,
            routers=sky.routers,
            num_slots=num_slots,
        )


def _fetch_for_nothing(worker: WorkerView, scene: Scene) -> Fetching | None:
    found = fetch_to(worker, scene)
    return None if found is None else replace(found, seconds=0.0, copied_s=0.0)


def _picked(faults: tuple[Fault, ...], only: tuple[int, ...] | None) -> tuple[Fault, ...]:
    return faults if only is None else tuple(faults[number] for number in only)


def _manners(chance: random.Random, arrivals_s: float) -> Manners:
    """Most wait politely for the end."""
    kind = chance.random()
    starts_at = chance.random() * arrivals_s
    if kind < 0.1:
        return Manners(starts_at=starts_at, deadline_s=0.05 + chance.random() * 1.5)
    if kind < 0.3:
        leaving = chance.choice(tuple(Leaving))
        return Manners(starts_at=starts_at, leaves_at=chance.random() * 1.0, leaving=leaving)
    if kind < 0.4:
        return Manners(starts_at=starts_at, read_every_s=0.1 * chance.random())
    return Manners(starts_at=starts_at)
