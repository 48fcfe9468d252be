"""Goal: each role can do its work in Redis and nothing else; no scripts, nothing that blocks. Method: a real Valkey."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis.asyncio
from redis import exceptions

from common.config.loader import load
from common.core.clock import SystemClock
from common.core.errors import Unavailable
from common.core.ids import Epoch, RouterId, RouterRef
from common.core.queue import QueueReport
from common.directory import neighbour
from common.directory.access import RedisUser, acl_lines, role_password
from common.directory.connect import connect
from common.directory.keys import Keys
from common.directory.queue_board import QueueBoard
from common.directory.redis_store import RedisStore
from common.directory.store import Join, Put
from services.local.valkey import EmbeddedValkey
from tests.directory.cluster import SETTINGS, Router, Worker, published

SECRET = b"canary-secret"
PASSWORDS = {user: role_password(SECRET, user) for user in RedisUser}


@pytest.fixture
async def valkey() -> AsyncIterator[EmbeddedValkey]:
    async with EmbeddedValkey(acl=acl_lines("test", PASSWORDS), max_memory_bytes=1 << 28) as server:
        yield server


def store(valkey: EmbeddedValkey, user: RedisUser) -> RedisStore:
    config = load(settings=[f"cluster.redis_url={valkey.url}", "cluster.redis_login=role", "cluster.name=test"])
    return connect(config.cluster, config.liveness, user=user, secret=SECRET)


async def test_worker_and_router_do_all_their_work_with_their_own_rights(valkey: EmbeddedValkey) -> None:
    clock = SystemClock()
    stores = [store(valkey, RedisUser.WORKER), store(valkey, RedisUser.ROUTER)]
    worker, router = Worker(stores[0], clock), Router(stores[1], clock)
    board = QueueBoard(
        router.guard, SETTINGS, clock=clock, router=RouterRef(router=RouterId("router-0"), epoch=Epoch(1))
    )
    assert await worker.registration.beat()
    worker.registration.publish(published(1))
    await worker.registration.flush()
    worker.registration.publish(published(2))
    await worker.registration.flush()
    await router.mirror.round()
    assert router.runs(1, 2) == {"decode-0": 2}
    assert await board.publish(QueueReport(depths=()))
    assert [view.router.router for view in await board.read() or ()] == ["router-0"]
    await worker.registration.leave()
    await router.mirror.round()
    assert router.mirror.members() == ()
    await board.leave()
    assert worker.log.lines == router.log.lines == []
    for each in stores:
        await each.drop()


@pytest.fixture
def early_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of the dead are looked for with the first heartbeat."""
    monkeypatch.setattr(neighbour, "LOOK_S", 0.0)


async def _beat_among_the_dead(valkey: EmbeddedValkey, *, until_left: int) -> tuple[list[object], set[str], set[str]]:
    """A heartbeat of a worker and of a router, and more until so few names are left; what they logged, those names."""
    clock = SystemClock()
    stores = [store(valkey, RedisUser.WORKER), store(valkey, RedisUser.ROUTER)]
    keys = Keys("test")
    await stores[0].write([Join(key=keys.workers, member=f"dead-{number}", ttl_s=60) for number in range(80)])
    await stores[1].write([Join(key=keys.routers, member="dead-router", ttl_s=60)])
    worker, router = Worker(stores[0], clock), Router(stores[1], clock)
    board = QueueBoard(
        router.guard, SETTINGS, clock=clock, router=RouterRef(router=RouterId("router-0"), epoch=Epoch(1))
    )
    beating = asyncio.create_task(worker.registration.run())
    assert await board.publish(QueueReport(depths=()))
    await asyncio.sleep(1.5 * SETTINGS.heartbeat_s)
    async with asyncio.timeout(30.0):
        while len(await stores[1].members(keys.workers)) + len(await stores[1].members(keys.routers)) > until_left:
            await asyncio.sleep(0.05)  # Redis tells nobody
    beating.cancel()
    left = [set(await stores[1].members(key)) for key in (keys.workers, keys.routers)]
    for each in stores:
        await each.drop()
    return [*worker.log.lines, *router.log.lines], left[0], left[1]


@pytest.mark.usefixtures("early_looks")
async def test_worker_and_router_take_the_names_of_the_dead_away_with_their_own_rights(valkey: EmbeddedValkey) -> None:
    complaints, workers, routers = await _beat_among_the_dead(valkey, until_left=2)
    assert (complaints, workers, routers) == ([], {"decode-0"}, {"router-0"})


@pytest.mark.usefixtures("early_looks")
async def test_rights_of_an_older_release_leave_the_dead_and_disturb_nobody() -> None:
    """A rollout changes processes first, or rights first: neither may open a circuit."""
    lines = [
        line.replace("+get +smembers", "+get").replace("+get +mget", "+mget") for line in acl_lines("test", PASSWORDS)
    ]
    async with EmbeddedValkey(acl=lines) as server:
        complaints, workers, routers = await _beat_among_the_dead(server, until_left=81 + 2)
    assert complaints == []
    assert len(workers) == 81
    assert routers == {"router-0", "dead-router"}


async def test_a_router_may_ask_how_full_redis_is_and_others_are_told_nothing(valkey: EmbeddedValkey) -> None:
    router, worker = store(valkey, RedisUser.ROUTER), store(valkey, RedisUser.WORKER)
    memory = await router.memory()
    assert memory is not None
    assert memory.limit is not None
    assert 0 < memory.used < memory.limit
    assert await worker.memory() is None
    for each in (router, worker):
        await each.drop()


DENIED: tuple[tuple[str, ...], ...] = (
    ("EVAL", "return 1", "0"),
    ("BLPOP", "baton:{test}:events", "1"),
    ("XREAD", "BLOCK", "1", "STREAMS", "baton:{test}:events", "0"),
    ("KEYS", "*"),
    ("FLUSHALL",),
    ("CONFIG", "GET", "*"),
    ("ACL", "LIST"),
    ("SUBSCRIBE", "x"),
    ("GET", "baton:{other}:worker:decode-0"),
    ("SET", "elsewhere", "x"),
)


@pytest.mark.parametrize("user", list(RedisUser))
async def test_everything_else_is_denied(valkey: EmbeddedValkey, user: RedisUser) -> None:
    client = redis.asyncio.Redis(
        host="127.0.0.1", port=valkey.port, username=user.login, password=PASSWORDS[user], protocol=2
    )
    for words in DENIED:
        with pytest.raises(exceptions.NoPermissionError):
            await client.execute_command(*words)  # type: ignore[no-untyped-call]  # the library left it untyped
    await client.aclose()


async def test_a_router_cannot_write_what_workers_say(valkey: EmbeddedValkey) -> None:
    router = store(valkey, RedisUser.ROUTER)
    with pytest.raises(Unavailable) as caught:
        await router.write([Put(key="baton:{test}:worker:decode-0", value=b"x", ttl_s=3)])
    assert caught.value.facts["kind"] == "denied"
    await router.drop()


async def test_the_default_user_and_a_wrong_password_get_nothing(valkey: EmbeddedValkey) -> None:
    wrong = [
        RedisStore(valkey.url, timeout_s=2),
        RedisStore(valkey.url, timeout_s=2, username="baton-worker", password="wrong"),
    ]
    for each in wrong:
        with pytest.raises(Unavailable) as caught:
            await each.read(["a"])
        assert caught.value.facts["kind"] == "denied"
        await each.drop()


async def test_a_password_that_is_changed_amid_the_run_is_redis_being_away_until_it_is_back() -> None:
    """Whoever rotates passwords does one side first: nobody fails for it, and nobody needs to be started again."""
    admin_line = "user admin on >admin ~* &* +@all"
    login, clock = RedisUser.ROUTER.login, SystemClock()
    async with EmbeddedValkey(acl=(*acl_lines("test", PASSWORDS), admin_line), max_memory_bytes=1 << 28) as valkey:
        admin = redis.asyncio.Redis(host="127.0.0.1", port=valkey.port, username="admin", password="admin", protocol=2)
        mine = store(valkey, RedisUser.ROUTER)
        router = Router(mine, clock)
        board = QueueBoard(router.guard, SETTINGS, clock=clock, router=RouterRef(router=RouterId("r"), epoch=Epoch(1)))

        async def change(password: str) -> None:
            await admin.execute_command("ACL", "SETUSER", login, "resetpass", f">{password}")  # type: ignore[no-untyped-call]
            await admin.execute_command("CLIENT", "KILL", "USER", login)  # type: ignore[no-untyped-call]

        assert await board.publish(QueueReport(depths=()))
        await change("another")
        for _ in range(4):
            assert not await board.publish(QueueReport(depths=()))
            assert await board.read() is None
            await router.mirror.round()
        await change(PASSWORDS[RedisUser.ROUTER])
        async with asyncio.timeout(10):
            while not await board.publish(QueueReport(depths=())):
                await asyncio.sleep(SETTINGS.probe_s / 4)
        assert [view.router.router for view in await board.read() or ()] == ["r"]
        assert all(event.startswith("directory") for event, _ in router.log.lines), router.log.lines
        await mine.drop()
        await admin.aclose()


def test_passwords_appear_as_hashes_only_and_differ_by_role_and_secret() -> None:
    text = "\n".join(acl_lines("test", PASSWORDS))
    assert all(password not in text for password in PASSWORDS.values())
    others = {role_password(b"another", user) for user in RedisUser}
    assert len(set(PASSWORDS.values()) | others) == 2 * len(RedisUser)
