"""Goal: trouble with Redis costs at most the timeout, shows in one metric and writes one line a minute."""

import asyncio

import pytest

from common.directory.guard import Guard
from common.directory.memory_store import MemoryServer, MemoryStore
from common.directory.store import Put, Store, StoreTrouble
from common.observe import catalogue
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics
from tests.directory.cluster import SETTINGS, ListLog
from tests.sim.timeloop import LoopClock, TimeLoop, simulate


class Bench:
    """One guard on one twin, in virtual time."""

    def __init__(self, loop: TimeLoop) -> None:
        self.clock = LoopClock(loop)
        self.server = MemoryServer(self.clock)
        self.metrics = Metrics(ProcessRole.ROUTER)
        self.log = ListLog()
        store = MemoryStore(self.server, "router")
        self.guard = Guard(store, SETTINGS, clock=self.clock, metrics=self.metrics, log=self.log)

    async def read(self) -> tuple[bytes | None, ...] | None:
        async def attempt(store: Store) -> tuple[bytes | None, ...]:
            return await store.read(["a"])

        return await self.guard.run(attempt)


def test_no_attempt_takes_longer_than_the_timeout_and_an_open_circuit_takes_no_time() -> None:
    async def program(loop: TimeLoop) -> None:
        bench = Bench(loop)
        assert await bench.read() == (None,)
        bench.server.pause()
        waits = []
        for _ in range(200):
            began = bench.clock.monotonic()
            assert await bench.read() is None
            waits.append(bench.clock.monotonic() - began)
            await asyncio.sleep(0.05)
        assert max(waits) <= 0.25 + 1e-6
        assert sum(wait > 0 for wait in waits) <= 3 + 20 / SETTINGS.probe_s
        assert bench.guard.is_stale
        assert bench.metrics.value(catalogue.DIRECTORY_STALE) == 1
        assert bench.metrics.value(catalogue.DIRECTORY_BREAKER) == 2

    simulate(program)


def test_it_is_stale_within_half_a_second_and_fresh_with_the_first_answer() -> None:
    async def program(loop: TimeLoop) -> None:
        bench = Bench(loop)
        assert await bench.read() == (None,)
        bench.server.stop()
        await asyncio.sleep(0.05)
        for _ in range(4):
            await bench.read()
            await asyncio.sleep(0.05)
        assert bench.metrics.value(catalogue.DIRECTORY_STALE) == 1
        bench.server.start()
        await asyncio.sleep(SETTINGS.probe_s)
        assert await bench.read() == (None,)
        assert not bench.guard.is_stale
        assert bench.metrics.value(catalogue.DIRECTORY_STALE) == 0
        assert [event for event, _ in bench.log.lines] == ["directory_away", "directory_returned"]

    simulate(program)


@pytest.mark.parametrize("kind", [StoreTrouble.FULL, StoreTrouble.READONLY, StoreTrouble.DENIED])
def test_a_refused_write_is_counted_by_kind_and_logged_once_a_minute(kind: StoreTrouble) -> None:
    async def program(loop: TimeLoop) -> None:
        bench = Bench(loop)
        bench.server.refuse_writes(kind)
        for _ in range(600):
            answer = await bench.guard.run(lambda store: store.write([Put(key="a", value=b"1", ttl_s=3)]))
            assert answer is None
            await asyncio.sleep(0.5)
        lines = [facts for event, facts in bench.log.lines if event == "directory_away"]
        assert 5 <= len(lines) <= 6
        assert {facts["kind"] for facts in lines} == {kind}
        assert bench.metrics.value(catalogue.DIRECTORY_ERRORS, kind=kind) > 100

    simulate(program)


def test_a_cancelled_attempt_drops_the_connection_and_frees_the_turn() -> None:
    async def program(loop: TimeLoop) -> None:
        bench = Bench(loop)
        bench.server.pause()
        task = asyncio.create_task(bench.read())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        bench.server.resume()
        assert await bench.read() == (None,)

    simulate(program)
