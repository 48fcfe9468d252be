"""Drains that something comes between: other drains, deaths, Redis away, an impatient orchestrator, nobody left.

Each story ends with the world's invariants: every stream is exact, nothing is held, every process ended by itself.
"""

import asyncio
from dataclasses import replace

import pytest

from common.core.errors import DeadlineExceeded
from common.observe import catalogue
from tests.sim.client import Manners
from tests.sim.play import play
from tests.sim.test_drain import GRACE_S, ROOMY, busiest, counted, leave, longs, running_on
from tests.sim.world import World

MOMENTS = (0.0, 0.02, 0.15)
"""After the signal, in seconds: before anybody has heard, amid the move, behind it."""


async def leave_for_good(world: World, name: str, within_s: float = GRACE_S + 1.0) -> None:
    began = world.loop.time()
    await world.retire(name)
    assert world.loop.time() - began <= within_s, f"{name} took {world.loop.time() - began:.2f} s"


@pytest.mark.parametrize("decode", [2, 3])
def test_two_decode_workers_that_leave_at_once_give_nothing_to_each_other(decode: int) -> None:
    """With a third one all goes there; without, answers stay to the end of the grace, and go on with whoever comes."""

    async def story(world: World) -> None:
        for ask in longs(4):
            world.ask(ask, Manners())
        await asyncio.sleep(1.5)
        pair = [world.workers[name] for name in ("decode-0", "decode-1")]
        hit = sum(running_on(world, worker.name) for worker in pair)
        async with asyncio.TaskGroup() as group:
            for worker in pair:
                group.create_task(leave_for_good(world, worker.name))
        cut, kept = (sum(counted(worker, name) for worker in pair) for name in ("cut", "kept"))
        assert cut + kept == hit
        assert cut == 0 if decode == 3 else cut > 0
        for worker in pair:
            world.start(worker.name)

    play(story, prefill=1, decode=decode, config=ROOMY)


@pytest.mark.parametrize("after_s", MOMENTS)
def test_two_decode_workers_leave_one_just_after_the_other(after_s: float) -> None:
    async def story(world: World) -> None:
        for ask in longs(4):
            world.ask(ask, Manners())
        await asyncio.sleep(1.5)
        async with asyncio.TaskGroup() as group:
            group.create_task(leave(world, "decode-0"))
            await asyncio.sleep(after_s)
            group.create_task(leave(world, "decode-1"))

    play(story, prefill=1, decode=3, config=ROOMY)


@pytest.mark.parametrize("after_s", MOMENTS)
def test_who_takes_over_dies_while_the_answers_move(after_s: float) -> None:
    async def story(world: World) -> None:
        for ask in longs(4):
            world.ask(ask, Manners())
        await asyncio.sleep(1.5)
        name = busiest(world)
        other = "decode-1" if name == "decode-0" else "decode-0"
        leaving = asyncio.create_task(leave(world, name))
        await asyncio.sleep(after_s)
        world.kill(other)
        await asyncio.sleep(0.3)
        world.start(other)
        await leaving

    play(story, prefill=1, decode=2, config=ROOMY)


@pytest.mark.parametrize("after_s", MOMENTS)
def test_an_orchestrator_that_waits_less_than_the_grace_costs_a_second_reading_at_most(after_s: float) -> None:
    """SIGKILL amid the drain: what has moved is safe, what has not is read again."""

    async def story(world: World) -> None:
        for ask in longs(4):
            world.ask(ask, Manners())
        await asyncio.sleep(1.5)
        name = busiest(world)
        leaving = asyncio.create_task(world.retire(name))
        await asyncio.sleep(after_s)
        world.kill(name)
        world.start(name)
        await leaving

    play(story, prefill=1, decode=2, config=ROOMY)


@pytest.mark.parametrize("how", ["stop", "pause"])
def test_a_router_leaves_in_time_while_redis_is_away(how: str) -> None:
    async def story(world: World) -> None:
        for ask in longs(4):
            world.ask(replace(ask, max_tokens=60), Manners())
        await asyncio.sleep(1.0)
        world.redis.stop() if how == "stop" else world.redis.pause()
        await asyncio.sleep(0.5)
        await leave_for_good(world, "router-0")
        world.redis.start()
        world.redis.resume()
        world.start("router-0")

    play(story, prefill=1, decode=2, routers=2, config=ROOMY)


@pytest.mark.parametrize("role", ["prefill", "decode"])
@pytest.mark.parametrize("how", ["stop", "pause"])
def test_a_worker_leaves_in_time_while_redis_is_away(role: str, how: str) -> None:
    """Routers hear of it from the worker itself: nothing waits for the directory."""

    async def story(world: World) -> None:
        for ask in longs(4):
            world.ask(ask, Manners())
        await asyncio.sleep(1.5)
        world.redis.stop() if how == "stop" else world.redis.pause()
        await asyncio.sleep(0.5)
        name = busiest(world) if role == "decode" else "prefill-0"
        left = world.workers[name]
        began = world.loop.time()
        await world.retire(name)
        took_s = world.loop.time() - began
        assert took_s < GRACE_S, f"{took_s:.2f} s: it waited for Redis"
        assert counted(left, "cut") == 0
        if role == "decode":
            assert counted(left, "kept") > 0
        world.redis.start()
        world.redis.resume()
        world.start(name)

    play(story, prefill=2, decode=2, config=ROOMY)


def test_without_another_decode_worker_ever_a_client_is_told_that_nobody_is_there() -> None:
    """The only one leaves for good: what it could not finish ends with a status, at its deadline at the latest."""

    async def story(world: World) -> None:
        short, long = replace(longs(1)[0], name="short", max_tokens=150), longs(1)[0]
        world.ask(short, Manners())
        waiting = world.ask(long, Manners(deadline_s=20.0))
        await asyncio.sleep(1.0)
        await leave_for_good(world, "decode-0")
        await world.wait_clients(within_s=25.0)
        assert world.clients[0].told.error is None
        assert isinstance(waiting.told.error, DeadlineExceeded)
        assert waiting.told.answer.choices[0].tokens, "what was written was given"
        world.start("decode-0")

    play(story, prefill=1, decode=1, config=ROOMY)


def test_a_fleet_that_goes_to_none_finishes_what_it_can_and_what_comes_meanwhile_waits() -> None:
    """Scale to zero: everybody leaves at once; short answers end in the grace, long ones and new ones wait for the next
    fleet."""
    config = replace(ROOMY, router=replace(ROOMY.router, hold_s=60.0))

    async def story(world: World) -> None:
        short = [replace(ask, name=f"short-{n}", max_tokens=120) for n, ask in enumerate(longs(3))]
        for ask in (*short, *longs(3)):
            world.ask(ask, Manners())
        late = [replace(ask, name=f"late-{n}", max_tokens=20) for n, ask in enumerate(longs(3))]
        for number, ask in enumerate(late):
            world.ask(ask, Manners(starts_at=1.6 + 2.5 * number))
        await asyncio.sleep(1.5)
        async with asyncio.TaskGroup() as group:
            for name in world.worker_names:
                group.create_task(leave_for_good(world, name))
        assert all(client.is_done for client in world.clients[:3]), "a short answer was not finished"
        assert not any(client.is_done for client in world.clients[3:])
        await asyncio.sleep(5.0)
        for name in world.worker_names:
            world.start(name)

    play(story, prefill=2, decode=2, config=config)


@pytest.mark.parametrize("name", ["prefill-1", "decode-1", "router-0"])
def test_a_process_that_is_told_to_leave_while_it_starts_leaves_at_once(name: str) -> None:
    async def story(world: World) -> None:
        for ask in longs(4):
            world.ask(replace(ask, max_tokens=60), Manners())
        await asyncio.sleep(0.5)
        for _ in range(3):
            world.kill(name)
            world.start(name)
            await leave_for_good(world, name, within_s=2.5)
        world.start(name)

    play(story, prefill=2, decode=2, config=ROOMY)


@pytest.mark.parametrize("is_insisted", [False, True])
def test_a_router_that_leaves_finishes_what_it_can_and_tells_the_others_to_ask_again(is_insisted: bool) -> None:
    config = replace(ROOMY, liveness=replace(ROOMY.liveness, drain_s=3.0))

    async def story(world: World) -> None:
        for ask in (replace(longs(1)[0], name="short", max_tokens=100), *longs(3)):
            world.ask(ask, Manners())
        await asyncio.sleep(1.0)
        router = world.routers["router-0"]
        began = world.loop.time()
        leaving = asyncio.create_task(world.retire("router-0"))
        if is_insisted:
            await asyncio.sleep(0.2)
            router.farewell.hear()
        await leaving
        assert world.loop.time() - began <= (1.5 if is_insisted else 3.0 + 1.5)
        assert router.metrics.total(catalogue.REQUESTS_FINISHED) == (0 if is_insisted else 1)
        assert router.metrics.value(catalogue.REQUESTS_FAILED, reason="DRAINING") == (4 if is_insisted else 3)
        assert router.metrics.total(catalogue.REQUESTS_CANCELLED) == 0
        world.start("router-0")

    play(story, prefill=1, decode=2, config=config)


def test_a_router_that_fails_tells_who_waits_to_ask_elsewhere_and_that_nobody_cancelled() -> None:
    """A bug in what it lives by: here, in its view of the directory."""

    async def story(world: World) -> None:
        for ask in longs(4):
            world.ask(ask, Manners())
        await asyncio.sleep(1.5)
        router = world.routers["router-0"]
        assert router.node is not None
        hit = router.node.admission.num_active
        assert hit
        router.node.mirror.round = fail  # type: ignore[method-assign]
        await asyncio.wait({router.main}, timeout=GRACE_S)
        assert router.main.done()
        assert router.metrics.value(catalogue.REQUESTS_FAILED, reason="DRAINING") == hit
        assert router.metrics.total(catalogue.REQUESTS_CANCELLED) == 0
        assert any("the directory is on fire" in bug for bug in world.trace.bugs)
        world.trace.bugs.clear()
        world.start("router-0")

    play(story, prefill=1, decode=2, config=ROOMY)


def test_a_router_that_fails_while_it_drains_waits_for_nobody() -> None:
    """Who died cannot finish anything: the rest of the grace would only keep clients from asking elsewhere."""

    async def story(world: World) -> None:
        for ask in longs(4):
            world.ask(ask, Manners())
        await asyncio.sleep(1.5)
        router = world.routers["router-0"]
        assert router.node is not None
        leaving = asyncio.create_task(world.retire("router-0"))
        await asyncio.sleep(0.1)
        router.node.mirror.round = fail  # type: ignore[method-assign]
        began = world.loop.time()
        await leaving
        assert world.loop.time() - began <= 3.0
        assert any("the directory is on fire" in bug for bug in world.trace.bugs)
        world.trace.bugs.clear()
        world.start("router-0")

    play(story, prefill=1, decode=2, config=replace(ROOMY, liveness=replace(ROOMY.liveness, drain_s=60.0)))


async def fail() -> None:
    raise MemoryError("the directory is on fire")
