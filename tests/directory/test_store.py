"""Goal: the twin behaves like Redis. Method: one suite over both, the real one being an embedded Valkey."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from common.core.clock import SystemClock
from common.directory.memory_store import MemoryServer, MemoryStore
from common.directory.redis_store import RedisStore
from common.directory.store import STREAM_START, Append, Command, Join, Leave, Put, Remove, Renew, Store
from services.local.valkey import EmbeddedValkey


class Pair:
    """Two clients of one server."""

    def __init__(self, one: Store, two: Store) -> None:
        self.one = one
        self.two = two


@pytest.fixture(params=["memory", "redis"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    if request.param == "memory":
        server = MemoryServer(SystemClock())
        yield Pair(MemoryStore(server, "one"), MemoryStore(server, "two"))
        return
    async with EmbeddedValkey() as valkey:
        one, two = RedisStore(valkey.url, timeout_s=2), RedisStore(valkey.url, timeout_s=2)
        yield Pair(one, two)
        await one.drop()
        await two.drop()


async def test_a_value_is_read_back_and_expires(pair: Pair) -> None:
    assert await pair.one.write([Put(key="a", value=b"\x00\xff", ttl_s=0.2)]) == (True,)
    assert await pair.two.read(["a", "none"]) == (b"\x00\xff", None)
    await asyncio.sleep(0.3)
    assert await pair.two.read(["a"]) == (None,)
    assert await pair.two.read([]) == ()


async def test_renewing_postpones_expiry_and_says_whether_the_key_is_there(pair: Pair) -> None:
    await pair.one.write([Put(key="a", value=b"1", ttl_s=0.2)])
    assert await pair.one.write([Renew(key="a", ttl_s=30), Renew(key="none", ttl_s=30)]) == (True, False)
    await asyncio.sleep(0.3)
    assert await pair.one.read(["a"]) == (b"1",)
    assert await pair.one.write([Remove(key="a"), Remove(key="a")]) == (True, False)


async def test_replies_stay_with_their_commands(pair: Pair) -> None:
    commands: list[Command] = [
        Join(key="s", member="x", ttl_s=30),
        Renew(key="none", ttl_s=1),
        Append(key="e", value=b"1", max_entries=10, ttl_s=30),
        Renew(key="s", ttl_s=30),
        Leave(key="s", members=("x", "y")),
        Remove(key="none"),
    ]
    assert await pair.one.write(commands) == (True, False, True, True, True, False)


async def test_a_set_holds_ids_until_nobody_joins_again(pair: Pair) -> None:
    assert await pair.one.members("s") == frozenset()
    await pair.one.write([Join(key="s", member="x", ttl_s=0.2), Join(key="s", member="y", ttl_s=0.2)])
    assert await pair.two.members("s") == {"x", "y"}
    await pair.one.write([Leave(key="s", members=("x",))])
    assert await pair.two.members("s") == {"y"}
    await asyncio.sleep(0.3)
    assert await pair.two.members("s") == frozenset()


async def test_a_stream_is_read_in_order_from_any_position(pair: Pair) -> None:
    assert await pair.one.newest("e") is None
    for number in range(5):
        await pair.one.write([Append(key="e", value=bytes([number]), max_entries=1000, ttl_s=30)])
    first = await pair.two.entries("e", STREAM_START, 2)
    rest = await pair.two.entries("e", first[-1].id, 100)
    assert [entry.value for entry in (*first, *rest)] == [bytes([number]) for number in range(5)]
    assert await pair.two.newest("e") == rest[-1].id
    assert await pair.two.entries("e", rest[-1].id, 100) == ()
    assert first[0].id < first[1].id < rest[0].id


async def test_a_stream_is_trimmed_about_where_asked(pair: Pair) -> None:
    for number in range(40):
        await pair.one.write(
            [Append(key="e", value=number.to_bytes(2, "big"), max_entries=100, ttl_s=30) for _ in range(25)]
        )
    kept = await pair.one.entries("e", STREAM_START, 10_000)
    assert 100 <= len(kept) <= 200
    assert kept[-1].value == (39).to_bytes(2, "big")


async def test_an_exchange_sees_the_value_and_may_decline(pair: Pair) -> None:
    seen: list[bytes | None] = []

    def decline(before: bytes | None) -> None:
        seen.append(before)

    assert await pair.one.exchange("a", decline) is None
    replies = await pair.one.exchange("a", lambda _: [Put(key="a", value=b"1", ttl_s=30), Renew(key="b", ttl_s=1)])
    assert replies == (True, False)
    assert await pair.one.exchange("a", decline) is None
    assert seen == [None, b"1"]


async def test_an_exchange_writes_nothing_when_somebody_was_faster(pair: Pair) -> None:
    """The rival writes between the read and the write: from inside `decide`, on a client of its own."""
    wins = 0
    for number in range(50):
        rival: asyncio.Task[tuple[bool, ...]] | None = None

        async def exchange(number: int = number) -> tuple[bool, ...] | None:
            return await pair.one.exchange("a", lambda _: [Put(key="a", value=f"one-{number}".encode(), ttl_s=30)])

        rival = asyncio.create_task(pair.two.write([Put(key="a", value=f"two-{number}".encode(), ttl_s=30)]))
        replies = await exchange()
        await rival
        (value,) = await pair.one.read(["a"])
        wins += replies is not None
        if replies is None:
            assert value == f"two-{number}".encode()
    print("exchanges that won:", wins)


async def test_a_dropped_connection_is_replaced(pair: Pair) -> None:
    await pair.one.write([Put(key="a", value=b"1", ttl_s=30)])
    await pair.one.drop()
    assert await pair.one.read(["a"]) == (b"1",)


async def test_what_is_held_is_told(pair: Pair) -> None:
    before = await pair.one.memory()
    await pair.one.write([Put(key="a", value=bytes(200_000), ttl_s=60)])
    after = await pair.two.memory()
    assert before is not None
    assert after is not None
    assert after.used - before.used >= 150_000
