"""Goal: routers see who is alive and who owns what, through joins, restarts, losses and outages of Redis.

Method: production registrations and mirrors on the in-memory twin, in virtual time.
"""

import asyncio
import random

import pytest

from common.core.ids import WorkerId
from common.directory import registration
from common.directory.keys import Keys
from common.directory.memory_store import MemoryStore
from common.directory.store import STREAM_START, StoreTrouble
from common.observe import catalogue
from tests.directory.cluster import SETTINGS, Worker, prefix, published, withdrawn
from tests.directory.world import World, in_world

HEARTBEAT, LEASE = SETTINGS.heartbeat_s, SETTINGS.lease_s


def test_a_worker_and_what_it_holds_are_seen_within_a_heartbeat() -> None:
    async def body(world: World) -> None:
        router, worker = world.router(), world.worker()
        worker.registration.publish(published(1, 2, 3))
        waited = await router.wait_until(lambda: bool(router.runs(1)), 5)
        assert waited <= HEARTBEAT
        assert router.runs(1, 2, 9) == {"decode-0": 2}
        (member,) = router.mirror.members()
        assert member == worker.describe()
        began = world.clock.monotonic()
        worker.registration.publish(withdrawn(2))
        await router.wait_until(lambda: router.runs(1, 2) == {"decode-0": 1}, 5)
        assert world.clock.monotonic() - began <= 2 * SETTINGS.poll_s
        assert not router.mirror.is_stale

    in_world(body)


def test_what_a_busy_batch_fills_between_two_looks_is_one_event() -> None:
    """A step of thirty answers fills pages every time: a transaction each cost the worker a millisecond a step."""

    async def body(world: World) -> None:
        router, worker = world.router(), world.worker()
        await router.wait_until(lambda: bool(router.mirror.members()), 5)
        began = world.clock.monotonic()
        for number in range(100):
            worker.registration.publish(published(number))
            await asyncio.sleep(0.01)
        await router.wait_until(lambda: bool(router.runs(99)), 2 * SETTINGS.poll_s)
        looks = (world.clock.monotonic() - began) / SETTINGS.poll_s
        events = await MemoryStore(world.server, "reader").entries(Keys("test").events, STREAM_START, 1000)
        assert looks / 2 <= len(events) <= looks + 4  # and those of the heartbeats
        assert router.mirror.owned_pages(WorkerId("decode-0")) == 100

    in_world(body)


def test_news_after_silence_is_told_at_once() -> None:
    async def body(world: World) -> None:
        router, worker = world.router(), world.worker()
        await router.wait_until(lambda: bool(router.mirror.members()), 5)
        await asyncio.sleep(SETTINGS.poll_s)
        worker.registration.publish(published(1))
        assert await router.wait_until(lambda: bool(router.runs(1)), 5) < 1.5 * SETTINGS.poll_s

    in_world(body)


def test_the_load_of_a_member_follows_its_heartbeat() -> None:
    async def body(world: World) -> None:
        router, worker = world.router(), world.worker()
        await router.wait_until(lambda: bool(router.mirror.members()), 5)
        worker.steps = 41
        await router.wait_until(lambda: router.mirror.members()[0].load.steps == 41, 2 * HEARTBEAT + 0.1)

    in_world(body)


def test_a_router_that_joins_late_sees_all_that_is_owned() -> None:
    async def body(world: World) -> None:
        worker = world.worker()
        for number in range(100):
            worker.registration.publish(published(number))
            await asyncio.sleep(0.01)
        worker.registration.publish(withdrawn(*range(0, 100, 2)))
        await asyncio.sleep(SETTINGS.snapshot_s)
        router = world.router()
        await router.wait_until(lambda: router.mirror.owned_pages(WorkerId("decode-0")) == 50, HEARTBEAT)
        assert router.runs(0) == {}
        assert router.runs(1) == {"decode-0": 1}

    in_world(body)


def test_a_killed_worker_is_gone_after_its_lease_and_a_leaving_one_at_once() -> None:
    async def body(world: World) -> None:
        router = world.router()
        world.worker("decode-0")
        leaving = world.worker("decode-1")
        await router.wait_until(lambda: len(router.mirror.members()) == 2, 5)
        await asyncio.sleep(LEASE)
        await leaving.registration.leave()
        waited = await router.wait_until(lambda: len(router.mirror.members()) == 1, 5)
        assert waited <= SETTINGS.quiet_poll_s + SETTINGS.poll_s
        await world.kill("decode-0/1")
        waited = await router.wait_until(lambda: not router.mirror.members(), LEASE + 1)
        assert waited >= LEASE - HEARTBEAT

    in_world(body)


def test_a_new_incarnation_drops_all_that_the_old_one_owned() -> None:
    async def body(world: World) -> None:
        router, old = world.router(), world.worker(epoch=7)
        old.registration.publish(published(1, 2))
        await router.wait_until(lambda: router.runs(1, 2) == {"decode-0": 2}, 5)
        await world.kill("decode-0/7")
        new = world.worker(epoch=3)
        new.registration.publish(published(5))
        await router.wait_until(lambda: router.runs(5) == {"decode-0": 1}, 2 * HEARTBEAT)
        assert router.runs(1, 2) == {}
        assert [member.worker.epoch for member in router.mirror.members()] == [3]

    in_world(body)


def test_a_zombie_that_wakes_up_yields_to_the_incarnation_that_took_its_name() -> None:
    async def body(world: World) -> None:
        router, zombie = world.router(), world.worker(epoch=1)
        zombie.registration.publish(published(1))
        await router.wait_until(lambda: bool(router.runs(1)), 5)
        world.server.cut("decode-0")  # frozen: it says nothing more
        store = MemoryStore(world.server, "decode-0-again")
        heir = Worker(store, world.clock, epoch=2)
        world.tasks["heir"] = asyncio.create_task(heir.registration.run())
        heir.registration.publish(published(2))
        await router.wait_until(lambda: bool(router.runs(2)), 5)
        world.server.heal("decode-0")
        zombie.registration.publish(published(9))
        async with asyncio.timeout(5):
            assert await zombie.registration.wait_superseded() == heir.ref
        await zombie.registration.leave()
        await asyncio.sleep(2 * HEARTBEAT)
        assert not heir.registration.is_superseded
        assert [member.worker.epoch for member in router.mirror.members()] == [2]
        assert (router.runs(1), router.runs(9), router.runs(2)) == ({}, {}, {"decode-0": 1})

    in_world(body)


def test_during_an_outage_the_replica_is_served_as_stale_and_afterwards_rebuilt_within_two_heartbeats() -> None:
    """Redis is killed and comes back empty: F12."""

    async def body(world: World) -> None:
        router, worker = world.router(), world.worker()
        worker.registration.publish(published(1, 2))
        await router.wait_until(lambda: bool(router.runs(1)), 5)
        world.server.stop()
        await asyncio.sleep(0.5)
        assert router.metrics.value(catalogue.DIRECTORY_STALE) == 1
        worker.registration.publish(published(3))
        worker.registration.publish(withdrawn(2))
        await asyncio.sleep(4.5)
        assert router.runs(1, 2) == {"decode-0": 2}
        world.server.start()
        late = world.router("router-1")
        await router.wait_until(lambda: router.runs(3) == {"decode-0": 1}, 2 * HEARTBEAT)
        await late.wait_until(lambda: late.runs(3) == {"decode-0": 1}, 3 * SETTINGS.poll_s)
        assert router.runs(1, 2) == late.runs(1, 2) == {"decode-0": 1}
        await asyncio.sleep(2 * LEASE)
        assert len(router.mirror.members()) == 1
        assert not router.mirror.is_stale
        assert router.metrics.value(catalogue.DIRECTORY_STALE) == 0

    in_world(body)


def test_a_silent_emptying_does_not_make_anybody_vanish() -> None:
    async def body(world: World) -> None:
        router, worker = world.router(), world.worker()
        worker.registration.publish(published(1))
        await router.wait_until(lambda: bool(router.runs(1)), 5)
        vanished = 0
        for _ in range(10):
            world.server.empty()
            for _ in range(30):
                await asyncio.sleep(SETTINGS.poll_s)
                vanished += not router.mirror.members()
        assert vanished == 0
        late = world.router("router-1")
        await late.wait_until(lambda: bool(late.runs(1)), 2 * HEARTBEAT)

    in_world(body)


def test_a_frozen_redis_does_not_hold_anybody_up_and_nobody_is_forgotten() -> None:
    """Redis is stopped for 20 s and continues: F14. Commands that were given up are carried out late."""

    async def body(world: World) -> None:
        router, worker = world.router(), world.worker()
        worker.registration.publish(published(1))
        await router.wait_until(lambda: bool(router.runs(1)), 5)
        world.server.pause()
        for number in range(100, 140):
            worker.registration.publish(published(number))
            await asyncio.sleep(0.5)
            assert router.runs(1) == {"decode-0": 1}
        world.server.resume()
        await router.wait_until(lambda: all(router.runs(number) for number in range(100, 140)), 2 * HEARTBEAT + 0.1)
        assert len(router.mirror.members()) == 1

    in_world(body)


def test_a_router_cut_off_alone_keeps_its_replica_and_catches_up() -> None:
    """Only the router loses Redis: F13."""

    async def body(world: World) -> None:
        router, other, worker = world.router(), world.router("router-1"), world.worker()
        worker.registration.publish(published(1))
        await router.wait_until(lambda: bool(router.runs(1)), 5)
        world.server.cut("router-0")
        worker.registration.publish(published(2))
        await other.wait_until(lambda: bool(other.runs(2)), 1)
        await asyncio.sleep(30)
        assert router.mirror.is_stale
        assert not other.mirror.is_stale
        assert router.runs(1) == {"decode-0": 1}
        world.server.heal("router-0")
        lost_probe_s = SETTINGS.timeout_s + SETTINGS.probe_s
        await router.wait_until(lambda: bool(router.runs(2)), lost_probe_s + 4 * SETTINGS.poll_s)

    in_world(body)


def test_workers_cut_off_from_redis_leave_its_view_after_the_lease_and_come_back() -> None:
    async def body(world: World) -> None:
        router, worker = world.router(), world.worker()
        worker.registration.publish(published(1))
        await router.wait_until(lambda: bool(router.runs(1)), 5)
        await asyncio.sleep(LEASE)
        world.server.cut("decode-0")
        await router.wait_until(lambda: not router.mirror.members(), LEASE + 1)
        assert worker.registration.is_stale
        world.server.heal("decode-0")
        lost_probe_s = SETTINGS.timeout_s + SETTINGS.probe_s
        await router.wait_until(lambda: router.runs(1) == {"decode-0": 1}, lost_probe_s + 4 * SETTINGS.poll_s)

    in_world(body)


def test_events_that_were_trimmed_away_are_made_up_for_by_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "MAX_STREAM_ENTRIES", 1)

    async def body(world: World) -> None:
        names = ["decode-0", "decode-1", "decode-2"]
        router, workers = world.router(), [world.worker(name) for name in names]
        await router.wait_until(lambda: len(router.mirror.members()) == len(names), 5)
        before = router.metrics.total(catalogue.DIRECTORY_RESYNCS)
        for number in range(40):
            for worker in workers:
                worker.registration.publish(published(number))
            await asyncio.sleep(0.002)
        await router.wait_until(
            lambda: all(router.mirror.owned_pages(WorkerId(name)) == 40 for name in names),
            SETTINGS.snapshot_s + 2 * HEARTBEAT,
        )
        assert router.metrics.total(catalogue.DIRECTORY_RESYNCS) > before

    in_world(body)


def test_when_redis_is_full_work_goes_on_and_ownership_returns_with_the_space() -> None:
    async def body(world: World) -> None:
        router, worker = world.router(), world.worker()
        await router.wait_until(lambda: bool(router.mirror.members()), 5)
        world.server.refuse_writes(StoreTrouble.FULL)
        worker.registration.publish(published(1))
        await asyncio.sleep(20)
        assert worker.metrics.value(catalogue.DIRECTORY_STALE) == 1
        assert len([event for event, _ in worker.log.lines if event == "directory_away"]) == 1
        world.server.refuse_writes(None)
        await router.wait_until(lambda: router.runs(1) == {"decode-0": 1}, 2 * HEARTBEAT)

    in_world(body)


def test_every_key_expires_and_nothing_is_left_after_everybody_is_gone() -> None:
    async def body(world: World) -> None:
        world.router()
        worker = world.worker()
        worker.registration.publish(published(1))
        await asyncio.sleep(10)
        keys = world.server.keys
        assert len(keys) == 4
        assert all(key.startswith(Keys("test").prefix) for key in keys)
        assert all(0 < ttl_s <= 2 * LEASE for ttl_s in keys.values())
        await world.kill("decode-0/1")
        await asyncio.sleep(2 * LEASE + 0.1)
        assert world.server.keys == {}

    in_world(body)


def test_waiting_for_a_change_ends_with_the_deadline() -> None:
    async def body(world: World) -> None:
        router = world.router()
        began = world.clock.monotonic()
        assert not await router.mirror.wait_change(router.mirror.version, began + 2)
        assert world.clock.monotonic() - began == pytest.approx(2)
        assert await router.mirror.wait_change(router.mirror.version - 1, began)

    in_world(body)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_to_redis_the_mirrors_end_up_right(seed: int) -> None:
    """Random outages, cuts, emptyings and restarts; ten seconds after the last one every mirror equals the workers."""
    print("seed", seed)
    chance = random.Random(seed)

    async def body(world: World) -> None:
        routers = [world.router(f"router-{number}") for number in range(2)]
        workers = {name: world.worker(name) for name in ("prefill-0", "decode-0")}
        truth: dict[str, set[int]] = {name: set() for name in workers}
        epoch = 1
        for _ in range(60):
            for name, worker in workers.items():
                gained = set(chance.sample(range(200), chance.randrange(4))) - truth[name]
                lost = {number for number in truth[name] if chance.random() < 0.1}
                worker.registration.publish(withdrawn(*lost))
                worker.registration.publish(published(*gained))
                truth[name] = (truth[name] - lost) | gained
            epoch += 1
            await _trouble(world, chance, workers, truth, epoch)
            await asyncio.sleep(chance.random())
        world.server.start()
        world.server.resume()
        world.server.refuse_writes(None)
        for client in ("router-0", "router-1", "prefill-0", "decode-0"):
            world.server.heal(client)
        await asyncio.sleep(10)
        for router in routers:
            assert [member.worker for member in router.mirror.members()] == [
                workers[name].ref for name in sorted(workers)
            ]
            for number in range(200):
                holders = {name for name in workers if number in truth[name]}
                assert set(router.mirror.held_runs([prefix(number)])) == holders

    in_world(body, seed)


async def _trouble(
    world: World, chance: random.Random, workers: dict[str, Worker], truth: dict[str, set[int]], epoch: int
) -> None:
    """Perhaps something bad."""
    match chance.randrange(12):
        case 0:
            world.server.stop()
        case 1:
            world.server.start()
        case 2:
            world.server.pause()
        case 3:
            world.server.resume()
        case 4:
            world.server.empty()
        case 5:
            world.server.cut(chance.choice(("router-0", "router-1", "prefill-0", "decode-0")))
        case 6:
            world.server.heal(chance.choice(("router-0", "router-1", "prefill-0", "decode-0")))
        case 7:
            world.server.refuse_writes(chance.choice((None, StoreTrouble.FULL)))
        case 8:
            name = chance.choice(sorted(workers))
            await world.kill(f"{name}/{workers[name].ref.epoch}")
            workers[name] = world.worker(name, epoch)
            truth[name] = set()
        case _:
            return
