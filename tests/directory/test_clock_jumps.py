"""Goal: a clock that jumps costs hints for a moment. Method: wall clocks of Redis or others are set.

Redis expires keys by its wall clock, so a jump forwards is the end of every lease at once, and a jump back a life of
hours for the leases that stand. Nobody else here counts time by a wall clock.
"""

import asyncio

import pytest

from common.core.clock import Clock
from common.directory.memory_store import MemoryServer, MemoryStore
from common.observe import catalogue
from tests.directory.cluster import SETTINGS, Router, Worker, published
from tests.sim.timeloop import LoopClock, TimeLoop, simulate

HOURS_S = 3 * 3600.0
TWO_BEATS = 2 * SETTINGS.heartbeat_s + SETTINGS.timeout_s


class Jumpy:
    """A wall clock that somebody sets. What Redis calls time."""

    def __init__(self, clock: Clock, ahead_s: float = 0.0) -> None:
        self._clock = clock
        self.ahead_s = ahead_s

    def monotonic(self) -> float:
        return self._clock.monotonic() + self.ahead_s

    def wall(self) -> float:
        return self._clock.wall() + self.ahead_s


class WrongWall(Jumpy):
    """A process's clocks: only the wall clock is wrong."""

    def monotonic(self) -> float:
        return self._clock.monotonic()


@pytest.mark.parametrize("jumps", [(HOURS_S,), (-HOURS_S,), (HOURS_S, -HOURS_S), (-HOURS_S, HOURS_S)])
@pytest.mark.parametrize("apart_s", [0.0, 0.2, 1.7])
def test_when_the_clock_of_redis_jumps_prefixes_are_back_within_two_heartbeats(
    jumps: tuple[float, ...], apart_s: float
) -> None:
    async def program(loop: TimeLoop) -> None:
        clock = LoopClock(loop)
        redis = Jumpy(clock, ahead_s=2 * HOURS_S)  # so that it never has to go below 0
        server = MemoryServer(redis)
        workers = [Worker(MemoryStore(server, name), clock, name) for name in ("decode-0", "decode-1", "decode-2")]
        router = Router(MemoryStore(server, "router-0"), clock)
        tasks = [asyncio.create_task(worker.registration.run()) for worker in workers]
        tasks.append(asyncio.create_task(router.mirror.run()))
        await asyncio.sleep(0.13)  # out of step with the heartbeats
        for worker in workers:
            worker.registration.publish(published(1, 2))
        names = {worker.ref.worker for worker in workers}
        await router.wait_until(lambda: router.runs(1, 2) == dict.fromkeys(names, 2), 5.0)
        for jump_s in jumps:
            redis.ahead_s += jump_s
            await asyncio.sleep(apart_s)
        await router.wait_until(lambda: router.runs(1, 2) == dict.fromkeys(names, 2), TWO_BEATS)
        for worker in workers:
            worker.registration.publish(published(3))
        await router.wait_until(lambda: router.runs(3) == dict.fromkeys(names, 1), TWO_BEATS)
        for _ in range(40):  # and it stays so
            await asyncio.sleep(SETTINGS.lease_s / 20)
            assert {member.worker.worker for member in router.mirror.members()} == names
        assert not any(worker.registration.is_superseded for worker in workers)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    simulate(program)


@pytest.mark.parametrize("ahead_s", [HOURS_S, -HOURS_S])
def test_processes_whose_wall_clocks_are_wrong_know_of_each_other_as_soon(ahead_s: float) -> None:
    """And while they run: a step of NTP, a machine that slept."""

    async def program(loop: TimeLoop) -> None:
        clock = LoopClock(loop)
        server = MemoryServer(clock)
        wrong = WrongWall(clock)
        worker, router = Worker(MemoryStore(server, "w"), wrong), Router(MemoryStore(server, "r"), wrong)
        tasks = [asyncio.create_task(worker.registration.run()), asyncio.create_task(router.mirror.run())]
        worker.registration.publish(published(1))
        await router.wait_until(lambda: router.runs(1) == {"decode-0": 1}, TWO_BEATS)
        wrong.ahead_s = ahead_s
        worker.registration.publish(published(2))
        await router.wait_until(lambda: router.runs(2) == {"decode-0": 1}, TWO_BEATS)
        for _ in range(20):
            await asyncio.sleep(SETTINGS.heartbeat_s)
            assert len(router.mirror.members()) == 1
            assert not router.mirror.is_stale
        assert router.metrics.value(catalogue.DIRECTORY_ERRORS, kind="timeout") == 0
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    simulate(program)
