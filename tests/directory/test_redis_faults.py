"""Goal: the rules hold with a real server that is killed, frozen, full or refusing. Method: an embedded Valkey."""

import asyncio
import os
import random
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import replace

import pytest
import redis.asyncio

from common.core.clock import SystemClock
from common.core.errors import Unavailable
from common.directory.keys import Keys
from common.directory.redis_store import RedisStore
from common.directory.store import STREAM_START, Put, Store
from common.observe import catalogue
from services.local.valkey import EmbeddedValkey
from tests.directory.cluster import SETTINGS, Router, Worker, published, withdrawn

CLOCK = SystemClock()
TWO_BEATS = 2 * SETTINGS.heartbeat_s
SLACK_S = 0.7  # a busy machine with two cores
QUICK = replace(SETTINGS, timeout_s=0.1, probe_s=0.0)
STRANGE_REPLIES = (
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"$abc\r\n",
    b":7\r\n" * 8,
    b"*2\r\n:1\r\n:2\r\n" * 8,
    b"*1\r\n*-1\r\n" * 8,
    b"$-1\r\n" * 8,
    b"*2\r\n$1\r\n\xff\r\n*1\r\n$1\r\n\xff\r\n" * 8,
    b"-MOVED 1 a:1\r\n" * 8,
    b"\xff\x00\r\n",
)

pytestmark = [pytest.mark.cluster, pytest.mark.calm]


@pytest.fixture
async def valkey() -> AsyncIterator[EmbeddedValkey]:
    async with EmbeddedValkey() as server:
        yield server


@asynccontextmanager
async def running(valkey: EmbeddedValkey) -> AsyncIterator[tuple[Worker, Router]]:
    """A worker and a router that follow the directory."""
    stores = [RedisStore(valkey.url, timeout_s=SETTINGS.timeout_s) for _ in range(2)]
    worker, router = Worker(stores[0], CLOCK), Router(stores[1], CLOCK)
    tasks = [asyncio.create_task(worker.registration.run()), asyncio.create_task(router.mirror.run())]
    try:
        yield worker, router
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        for store in stores:
            await store.drop()
    assert [end for end in ends if isinstance(end, Exception)] == []


async def test_a_killed_server_that_comes_back_empty_costs_no_member_and_is_refilled(valkey: EmbeddedValkey) -> None:
    async with running(valkey) as (worker, router):
        worker.registration.publish(published(1, 2))
        await router.wait_until(lambda: bool(router.runs(1)), 5)
        await valkey.kill()
        await asyncio.sleep(0.5 + SLACK_S)
        assert router.metrics.value(catalogue.DIRECTORY_STALE) == 1
        worker.registration.publish(withdrawn(2))
        worker.registration.publish(published(3))
        await asyncio.sleep(3.5)
        assert router.runs(1, 2) == {"decode-0": 2}
        await valkey.start()
        waited = await router.wait_until(lambda: router.runs(3) == {"decode-0": 1}, TWO_BEATS + SLACK_S)
        print(f"rebuilt after {waited:.3f} s")
        assert router.runs(1, 2) == {"decode-0": 1}
        assert not router.mirror.is_stale
        assert [event for event, _ in router.log.lines] == ["directory_away", "directory_returned"]


async def test_a_frozen_server_is_never_waited_for_longer_than_the_timeout(valkey: EmbeddedValkey) -> None:
    async with running(valkey) as (worker, router):
        worker.registration.publish(published(1))
        await router.wait_until(lambda: bool(router.runs(1)), 5)
        os.kill(valkey.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(1)
            assert router.mirror.is_stale

            async def read(store: Store) -> tuple[bytes | None, ...]:
                return await store.read(["a"])

            waits = []
            for _ in range(40):
                began = CLOCK.monotonic()
                assert await router.guard.run(read) is None
                waits.append(CLOCK.monotonic() - began)
                await asyncio.sleep(0.05)
            assert max(waits) < 2 * SETTINGS.timeout_s + SLACK_S / 2  # behind the mirror's own probe at worst
            assert router.runs(1) == {"decode-0": 1}
        finally:
            os.kill(valkey.pid, signal.SIGCONT)
        worker.registration.publish(published(2))
        await router.wait_until(lambda: router.runs(1, 2) == {"decode-0": 2}, TWO_BEATS + SETTINGS.timeout_s + SLACK_S)
        assert router.metrics.value(catalogue.DIRECTORY_ERRORS, kind="timeout") >= 3
        assert len([event for event, _ in router.log.lines if event == "directory_away"]) == 1


async def test_a_connection_that_does_not_close_in_time_ends_nobody(
    valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen server behind TLS says no last word, and a loop that stood still does not hear it in time. The library
    calls that an error, and whoever had the heartbeat, a worker or a router, ended with it."""

    async def never(_writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async def slow(store: Store) -> None:
        assert await store.read(["a"]) == (None,)
        await asyncio.sleep(60)

    store = RedisStore(valkey.url, timeout_s=SETTINGS.timeout_s)
    router = Router(store, CLOCK)
    with monkeypatch.context() as patch:
        patch.setattr(asyncio.StreamWriter, "wait_closed", never)
        assert await router.guard.run(slow) is None
    assert router.metrics.value(catalogue.DIRECTORY_ERRORS, kind="timeout") == 1
    assert await router.guard.run(lambda each: each.read(["a"])) == (None,), "the next one has a connection of its own"
    await store.drop()


async def test_a_full_server_is_counted_as_full_and_reading_goes_on() -> None:
    async with EmbeddedValkey(max_memory_bytes=8 * 1024 * 1024) as valkey:
        filler = RedisStore(valkey.url, timeout_s=2)
        for size in (256 * 1024, 4096, 16):
            with pytest.raises(Unavailable) as caught:
                await _fill(filler, size)
            assert caught.value.facts["kind"] == "full"
        async with running(valkey) as (worker, router):
            async with asyncio.timeout(20):
                while worker.metrics.value(catalogue.DIRECTORY_ERRORS, kind="full") < 1:
                    size += 1  # other keys: the server gives buffers back meanwhile, and has room again
                    with suppress(Unavailable):
                        await _fill(filler, size)
                    await asyncio.sleep(0.05)
            assert not router.mirror.is_stale
            assert [event for event, _ in worker.log.lines].count("directory_away") == 1
        await filler.drop()


def _reading(key: str) -> Callable[[Store], Awaitable[tuple[bytes | None, ...]]]:
    return lambda store: store.read([key])


async def _fill(store: Store, size: int) -> None:
    for number in range(4096):
        await store.write([Put(key=f"filler-{size}-{number}", value=bytes(size), ttl_s=60)])


async def test_cancelled_readers_never_get_each_others_answers(valkey: EmbeddedValkey) -> None:
    """Every value repeats its key; readers are cancelled at random moments of their round trip."""
    seed = 20261121
    print("seed", seed)
    chance = random.Random(seed)
    store = RedisStore(valkey.url, timeout_s=2)
    router = Router(store, CLOCK)
    for number in range(50):
        await store.write([Put(key=f"k{number}", value=f"k{number}".encode(), ttl_s=600)])
    cancelled = answered = 0
    for _ in range(3000):
        key = f"k{chance.randrange(50)}"
        task = asyncio.create_task(router.guard.run(_reading(key)))
        if chance.random() < 0.5:
            for _ in range(chance.randrange(6)):
                await asyncio.sleep(0)
            task.cancel()
        result = (await asyncio.gather(task, return_exceptions=True))[0]
        if isinstance(result, asyncio.CancelledError):
            cancelled += 1
        else:
            assert result == (key.encode(),)
            answered += 1
    print("cancelled", cancelled, "answered", answered)
    assert cancelled > 500
    assert answered > 500
    await store.drop()


async def test_nobody_home_is_not_an_error_of_the_process() -> None:
    """Redis may come later than everybody else."""
    server = EmbeddedValkey()
    async with running(server) as (worker, router):
        worker.registration.publish(published(1))
        await asyncio.sleep(1)
        assert router.mirror.members() == ()
        async with server:
            await router.wait_until(lambda: bool(router.runs(1)), TWO_BEATS + SLACK_S)


async def test_keys_of_another_type_and_names_that_are_none_are_passed_over_and_replaced(
    valkey: EmbeddedValkey,
) -> None:
    """Whatever else writes to that Redis: nobody dies of it, and the next heartbeat puts back what belongs there."""
    keys = Keys(SETTINGS.cluster)
    async with running(valkey) as (worker, router), stranger(valkey) as other:
        worker.registration.publish(published(1))
        await router.wait_until(lambda: bool(router.runs(1)), 5)
        for key in (keys.worker(worker.ref.worker), keys.workers, keys.events, keys.owned(worker.ref.worker)):
            await other.delete(key)
            await (other.set(key, b"x") if key in (keys.workers, keys.events) else other.rpush(key, b"x"))
        worker.registration.publish(published(2))
        await asyncio.sleep(TWO_BEATS + SLACK_S)
        await other.sadd(keys.workers, b"\xff\xfe", b"n" * 5000, b"", b"ghost")
        await other.xadd(keys.events, {b"\xff": b"\xff", b"v": b"\xff"})
        worker.registration.publish(published(3))
        await router.wait_until(lambda: router.runs(1, 2, 3) == {"decode-0": 3}, TWO_BEATS + 2 * SLACK_S)
        assert not router.mirror.is_stale
        assert [await other.type(key) for key in (keys.workers, keys.events)] == [b"set", b"stream"]


@pytest.mark.parametrize("reply", STRANGE_REPLIES, ids=repr)
async def test_what_is_no_redis_is_trouble_of_a_store_and_nothing_else(reply: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            while await reader.read(4096):
                writer.write(reply)

    operations: tuple[Callable[[Store], Awaitable[object]], ...] = (
        lambda store: store.write([Put(key="a", value=b"x", ttl_s=1)]),
        lambda store: store.exchange("a", lambda _before: (Put(key="a", value=b"x", ttl_s=1),)),
        lambda store: store.read(["a", "b"]),
        lambda store: store.members("a"),
        lambda store: store.entries("a", STREAM_START, 5),
        lambda store: store.newest("a"),
        lambda store: store.memory(),
    )
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        store = RedisStore(f"redis://127.0.0.1:{port}/0", timeout_s=0.1)
        router = Router(store, CLOCK, QUICK)
        for operation in operations:
            await router.guard.run(operation)
        await store.drop()


REFUSALS = {
    b"-MISCONF Valkey cannot persist to disk": "Redis refuses a command: MISCONF Valkey cannot persist to disk",
    b"-NOPERM User x has no permissions": "Redis refuses this user or password: User x has no permissions",
    b"-MOVED 7 10.0.0.2:6379": "a Redis Cluster keeps our keys on another node: 7 10.0.0.2:6379",
    b"-ERR max number of clients reached": "no connection to Redis: max number of clients reached",
}


@pytest.mark.parametrize(("reply", "reason"), REFUSALS.items(), ids=repr)
async def test_what_a_transaction_was_refused_for_is_told_in_the_servers_words_and_without_what_was_written(
    reply: bytes, reason: str
) -> None:
    """The library puts the command before the server's words: key, value and all."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            while sent := await reader.read(4096):
                for word in re.findall(rb"\*\d+\r\n\$\d+\r\n(\w+)\r\n", sent):
                    said = {b"SET": reply, b"EXEC": b"-EXECABORT Transaction discarded"}
                    writer.write(said.get(word, b"+OK") + b"\r\n")

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        store = RedisStore(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", timeout_s=1)
        with pytest.raises(Unavailable) as caught:
            async with asyncio.timeout(5):
                await store.write([Put(key="a", value=b"what was written", ttl_s=1)])
        assert caught.value.message == reason
        await store.drop()


@asynccontextmanager
async def stranger(valkey: EmbeddedValkey) -> AsyncIterator[redis.asyncio.Redis]:
    """Another program that writes to the same server."""
    client = redis.asyncio.Redis(port=valkey.port)
    try:
        yield client
    finally:
        await client.aclose()
