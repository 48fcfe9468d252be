"""A prefill worker drains while prompts wait for it: they are read elsewhere, and nobody notices.

Production routers and workers over the simulated network, with the world's own invariants at the end of every story.
"""

import asyncio
from dataclasses import replace

import pytest

from common.core.worker import LoadReport
from common.observe import catalogue
from common.observe.metric import Metric
from tests.sim.cast import WorkerActor
from tests.sim.client import Manners
from tests.sim.oracle import Ask
from tests.sim.play import play
from tests.sim.test_drain import GRACE_S, counted
from tests.sim.world import CONFIG, World

NARROW = replace(
    CONFIG,
    engine=replace(CONFIG.engine, num_pages=2048, max_sequences=4, max_batch_tokens=12),
    router=replace(CONFIG.router, max_attempts=1),
)
"""A few prompts at a time, a dozen tokens a step: everybody else waits. And nobody may fail once."""

PROMPT = 240
"""Twenty steps and more: half a second."""


def prompts(count: int, length: int = PROMPT) -> list[Ask]:
    return [
        Ask(name=f"prompt-{number}", prompt=tuple((number * 31 + at) % 500 for at in range(length)), max_tokens=4)
        for number in range(count)
    ]


async def leave(world: World, name: str, *, within_s: float = GRACE_S + 1.0) -> tuple[WorkerActor, float]:
    """SIGTERM; the incarnation that left, and the seconds that it took. Its successor comes at once."""
    leaving, began = world.workers[name], world.loop.time()
    await world.retire(name)
    took_s = world.loop.time() - began
    assert took_s <= within_s, f"the drain took {took_s:.2f} s"
    world.start(name)
    return leaving, took_s


def load_of(world: World, name: str) -> LoadReport:
    node = world.workers[name].node
    assert node is not None
    return node.look().load


def counted_by_router(world: World, metric: Metric) -> float:
    return sum(router.metrics.total(metric) for router in world.routers.values())


def shown_by_routers(world: World) -> list[str]:
    """Counters that are not zero."""
    lines = [line for router in world.routers.values() for line in router.metrics.render().decode().splitlines()]
    return [line for line in lines if not line.endswith(" 0.0")]


def test_prompts_that_wait_are_passed_on_and_those_that_are_read_stay() -> None:
    async def story(world: World) -> None:
        for ask in prompts(16):
            world.ask(ask, Manners())
        await asyncio.sleep(0.6)
        load = load_of(world, "prefill-0")
        assert load.running_sequences > 0
        assert load.waiting_requests >= 2
        left, took_s = await leave(world, "prefill-0")
        assert took_s < GRACE_S / 2, "it read what waited for it"
        assert counted(left, "first_tokens") <= load.running_sequences + 1, "one may have been read before"
        assert counted(left, "cut") == 0
        assert counted_by_router(world, catalogue.PROMPTS_PASSED_ON) >= load.waiting_requests
        assert not any("retries_total" in line and "DRAINING" in line for line in shown_by_routers(world))

    play(story, prefill=2, decode=6, config=NARROW)


def test_the_only_prefill_worker_reads_what_it_has_before_it_leaves() -> None:
    async def story(world: World) -> None:
        for ask in prompts(8):
            world.ask(ask, Manners())
        await asyncio.sleep(0.6)
        load = load_of(world, "prefill-0")
        assert load.waiting_requests >= 2
        left, _ = await leave(world, "prefill-0", within_s=GRACE_S)
        assert counted(left, "first_tokens") >= load.running_sequences + load.waiting_requests
        assert counted(left, "cut") == 0
        assert counted_by_router(world, catalogue.PROMPTS_PASSED_ON) == 0

    play(story, prefill=1, decode=4, config=NARROW)


def test_a_prompt_that_would_not_be_read_in_time_is_read_elsewhere_from_its_beginning() -> None:
    """Half a second of grace for two and a half seconds of reading, of which one is over."""
    config = replace(
        NARROW,
        model=replace(CONFIG.model, max_context=2048),
        liveness=replace(CONFIG.liveness, drain_s=0.5),
    )

    async def story(world: World) -> None:
        world.ask(prompts(1, length=1200)[0], Manners())
        await asyncio.sleep(1.0)
        name = next(name for name in ("prefill-0", "prefill-1") if load_of(world, name).waiting_tokens)
        left, took_s = await leave(world, name)
        assert took_s < 0.5, "it was not waited for"
        assert (counted(left, "cut"), counted(left, "first_tokens")) == (0, 0)
        assert counted_by_router(world, catalogue.PROMPTS_PASSED_ON) == 1

    play(story, prefill=2, decode=1, config=config)


def test_what_is_cut_at_the_end_of_the_grace_counts_as_nobodys_failure() -> None:
    """The only prefill worker, again and again: a request may fail once here, and the workers only ever leave."""
    config = replace(NARROW, liveness=replace(CONFIG.liveness, drain_s=0.2))

    async def story(world: World) -> None:
        for ask in prompts(3):
            world.ask(ask, Manners())
        for _ in range(4):
            await asyncio.sleep(0.3)
            await leave(world, "prefill-0")
            await world.wait_serving()

    play(story, prefill=1, decode=1, config=config)


@pytest.mark.parametrize("fault", ["slow", "drop"])
def test_it_leaves_only_when_its_pages_have_arrived_or_will_not(fault: str) -> None:
    """Runs take long, or do not arrive: another worker reads what was lost, and the grace is kept."""

    async def story(world: World) -> None:
        for ask in prompts(8, length=120):
            world.ask(ask, Manners())
        await asyncio.sleep(0.5)
        if fault == "slow":
            world.data.faults.delay_s = 0.3
        else:
            world.data.faults.drop = 1.0
        leaving = asyncio.create_task(leave(world, "prefill-0"))
        await asyncio.sleep(2.0)
        world.data.faults.delay_s = world.data.faults.drop = 0.0
        left, _ = await leaving
        assert left.node is not None
        sent = left.node.endpoint.snapshot().sent
        assert sent.in_flight == 0
        assert sent.done + sent.failed > 0

    play(story, prefill=2, decode=4, config=replace(NARROW, router=CONFIG.router))


def test_a_client_that_leaves_while_its_prompt_is_passed_on_leaves_nothing_behind() -> None:
    """At many moments: asked, renewed, taken away, given to the other one. The world checks what is held."""
    for step in range(5):

        async def story(world: World, at_s: float = 0.6 + 0.008 * step) -> None:
            for ask in prompts(16):
                world.ask(ask, Manners(leaves_at=at_s))
            await asyncio.sleep(0.6)
            await leave(world, "prefill-0")

        play(story, seed=step, prefill=2, decode=4, config=NARROW)


@pytest.mark.parametrize("seed", range(3))
def test_both_prefill_workers_leave_one_after_the_other(seed: int) -> None:
    async def story(world: World) -> None:
        for number, ask in enumerate(prompts(16)):
            world.ask(ask, Manners(starts_at=0.1 * number))
        await asyncio.sleep(0.2 + 0.2 * seed)
        async with asyncio.TaskGroup() as group:
            group.create_task(leave(world, "prefill-0"))
            await asyncio.sleep(0.1 * seed)
            group.create_task(leave(world, "prefill-1"))

    play(story, seed=seed, prefill=2, decode=4, routers=2, config=NARROW)
