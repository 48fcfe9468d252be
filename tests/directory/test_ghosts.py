"""Goal: a Redis that comes back as it was before ends nobody who lives. Method: an image of the store, taken while an
incarnation stood there that was replaced since, is put back: a restart from an older snapshot, a replica that lagged.
"""

import asyncio
from itertools import pairwise

import pytest

from common.directory.memory_store import Image, MemoryStore
from common.observe import catalogue
from tests.directory.cluster import SETTINGS, Router, Worker, published
from tests.directory.world import World, in_world

HEARTBEAT, LEASE = SETTINGS.heartbeat_s, SETTINGS.lease_s


async def replaced(world: World, router: Router, *epochs: int) -> tuple[Worker, Image]:
    """Incarnations of decode-0 one after the other, each killed; the last one, and the store as the first left it."""
    worker, image = world.worker(epoch=epochs[0]), Image()
    worker.registration.publish(published(epochs[0]))
    await router.wait_until(lambda: router.runs(epochs[0]) == {"decode-0": 1}, 5)
    image = world.server.image()
    for before, epoch in pairwise(epochs):
        await world.kill(f"decode-0/{before}")
        worker = world.worker(epoch=epoch)
        worker.registration.publish(published(epoch))
        await router.wait_until(lambda epoch=epoch: router.runs(epoch) == {"decode-0": 1}, 2 * HEARTBEAT)  # type: ignore[misc]
    return worker, image


@pytest.mark.parametrize("epochs", [(7, 3), (7, 3, 5)], ids=["its predecessor", "the one before it"])
def test_a_record_of_the_dead_that_comes_back_ends_nobody_who_lives(epochs: tuple[int, ...]) -> None:
    async def body(world: World) -> None:
        router = world.router()
        heir, image = await replaced(world, router, *epochs)
        world.server.restore(image)
        seen: set[int] = set()
        for _ in range(60):
            await asyncio.sleep(SETTINGS.poll_s)
            seen |= {member.worker.epoch for member in router.mirror.members()}
        assert not heir.registration.is_superseded
        assert seen == {epochs[-1]}, "no router takes the dead for alive"
        assert router.runs(epochs[-1]) == {"decode-0": 1}
        assert router.metrics.value(catalogue.DIRECTORY_RESYNCS, cause="new_epoch") == len(epochs) - 1
        late = world.router("router-1")
        await late.wait_until(lambda: late.runs(epochs[-1]) == {"decode-0": 1}, 12 * SETTINGS.snapshot_s)

    in_world(body)


def test_an_heir_that_the_image_has_never_seen_still_ends_the_zombie() -> None:
    """The zombie wakes up in a Redis that has forgotten its heir: one of the two must go, and it is the elder."""

    async def body(world: World) -> None:
        router = world.router()
        zombie = world.worker(epoch=7)
        await router.wait_until(lambda: bool(router.mirror.members()), 5)
        image = world.server.image()
        world.server.cut("decode-0")
        heir = Worker(MemoryStore(world.server, "decode-0-again"), world.clock, epoch=3)
        world.tasks["heir"] = asyncio.create_task(heir.registration.run())
        await router.wait_until(lambda: [m.worker.epoch for m in router.mirror.members()] == [3], 5)
        world.server.restore(image)
        world.server.heal("decode-0")
        async with asyncio.timeout(4 * HEARTBEAT):
            await zombie.registration.wait_superseded()
        await asyncio.sleep(2 * LEASE)
        assert not heir.registration.is_superseded
        assert [member.worker.epoch for member in router.mirror.members()] == [3]

    in_world(body)


def test_two_that_begin_at_once_do_not_take_each_other_for_dead() -> None:
    """The first announcement of one is carried out and its answer lost: it announces again, over its heir."""

    async def body(world: World) -> None:
        router = world.router()
        world.server.pause()
        first = world.worker(epoch=7)
        await asyncio.sleep(SETTINGS.timeout_s / 2)
        heir = Worker(MemoryStore(world.server, "decode-0-again"), world.clock, epoch=3)
        world.tasks["heir"] = asyncio.create_task(heir.registration.run())
        await asyncio.sleep(SETTINGS.timeout_s)
        world.server.resume()
        await asyncio.sleep(4 * LEASE)
        assert first.registration.is_superseded != heir.registration.is_superseded
        (member,) = router.mirror.members()
        assert (member.worker.epoch == 7) != first.registration.is_superseded

    in_world(body)
