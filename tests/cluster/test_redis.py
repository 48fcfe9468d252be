"""Redis dies, comes back empty, or freezes: nothing fails, nothing waits for it, and the hints return with it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from common.config.secret import read_secret
from common.config.sections.cluster import ClusterSection, LivenessSection
from common.core.errors import Unavailable
from common.core.ids import WorkerId
from common.directory.access import RedisUser
from common.directory.connect import connect
from common.directory.keys import Keys
from services.local.topology import Kind
from tests.cluster.drive import SLOW_SIM, check_all, first_token_s, prompts
from tests.cluster.house import CLOCK, Ask, House, Told
from tests.cluster.metrics import samples

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

HOUSE = {"decode": 2, "settings": SLOW_SIM}
SEED = 8101
AWAY_S = 5.0
HEARTBEAT_S = 0.5
STALE_S = 0.5
"""The bar: routing goes by load alone this soon after Redis is gone."""
SLACK_S = 1.0
"""For looking from outside, on a machine that does other things as well."""


async def test_redis_is_killed_and_comes_back_empty(cluster: House) -> None:
    """F12: 16 streams, and five new requests a second."""
    streams = prompts(16, length=40, max_tokens=300, seed=SEED)
    short = prompts(8, length=64, max_tokens=8, seed=SEED + 1) * 6
    check_all(short[:8], await cluster.ask_all(short[:8]))
    owners = {worker.worker.worker_id for worker in (await cluster.view()).workers if worker.owned_pages}
    running = asyncio.create_task(cluster.ask_all(streams))
    arriving = asyncio.create_task(at_rate(cluster, short, per_s=5.0))
    await asyncio.sleep(1.0)
    async with away(cluster, AWAY_S) as back:
        killed_at = CLOCK.monotonic()
        await cluster.valkey.kill()
        await cluster.until(lambda: is_stale(cluster), timeout_s=STALE_S + SLACK_S)
        stale_s = CLOCK.monotonic() - killed_at
        assert await metric(cluster, "directory_stale") == 1
        await back.wait()
    back_at = CLOCK.monotonic()
    await cluster.until(lambda: is_rebuilt(cluster, owners), timeout_s=2 * HEARTBEAT_S + SLACK_S)
    rebuilt_s = CLOCK.monotonic() - back_at
    check_all([*streams, *short], [*await running, *await arriving])
    assert (await cluster.view()).figures["requests_failed"] == 0
    assert not (await cluster.view()).directory_is_stale
    assert await metric(cluster, "directory_stale") == 0
    print(f"F12: stale after {stale_s:.2f} s; {len(owners)} owners back {rebuilt_s:.2f} s after an empty Redis")


@pytest.mark.parametrize("frozen_s", [5.0, pytest.param(20.0, marks=pytest.mark.slow)])
async def test_a_frozen_redis_holds_up_nobody(cluster: House, frozen_s: float) -> None:
    """F14: the circuit opens; requests take as long as before, but for the deadline of one command."""
    seed = SEED + 2 * int(frozen_s)  # nothing of it was read here before
    control = prompts(20, length=40, max_tokens=2, seed=seed)
    told_before = await at_rate(cluster, control, per_s=10.0)
    asks = prompts(int(frozen_s * 10) - 5, length=40, max_tokens=2, seed=seed + 1)
    os.kill(cluster.valkey.pid, signal.SIGSTOP)
    try:
        told = await at_rate(cluster, asks, per_s=10.0)
        assert (await cluster.view()).directory_is_stale
        assert await metric(cluster, "directory_breaker_state") > 0
    finally:
        os.kill(cluster.valkey.pid, signal.SIGCONT)
    thawed_at = CLOCK.monotonic()
    await cluster.until(lambda: is_fresh(cluster), timeout_s=1.0 + SLACK_S)
    fresh_s = CLOCK.monotonic() - thawed_at
    check_all([*control, *asks], [*told_before, *told])
    usual, frozen = (sorted(map(first_token_s, group)) for group in (told_before, told))
    print(
        f"F14 {frozen_s:.0f} s: first token at most {frozen[-1]:.3f} s (undisturbed {usual[-1]:.3f} s), median "
        f"{frozen[len(frozen) // 2]:.3f} s ({usual[len(usual) // 2]:.3f} s); fresh {fresh_s:.2f} s after the thaw"
    )
    assert frozen[-1] <= 2 * usual[-1] + 0.25
    assert frozen[len(frozen) // 2] <= 2 * usual[len(usual) // 2]


@asynccontextmanager
async def away(cluster: House, seconds: float) -> AsyncIterator[asyncio.Event]:
    """Inside the block, a Valkey that dies is started again only after `seconds`; the event is set when it is back."""
    start, back = cluster.valkey.start, asyncio.Event()

    async def start_later() -> None:
        await asyncio.sleep(seconds)
        await start()
        back.set()

    cluster.valkey.start = start_later  # type: ignore[method-assign]  # the keeper of the cluster calls it
    try:
        yield back
    finally:
        cluster.valkey.start = start  # type: ignore[method-assign]


async def at_rate(cluster: House, asks: list[Ask], *, per_s: float) -> list[Told]:
    """Open loop: a slow answer does not delay the next request."""
    began, running = CLOCK.monotonic(), []
    for number, ask in enumerate(asks):
        await asyncio.sleep(began + number / per_s - CLOCK.monotonic())
        running.append(asyncio.create_task(cluster.ask(ask)))
    return await asyncio.gather(*running)


async def is_stale(cluster: House) -> bool:
    return (await cluster.view()).directory_is_stale


async def is_fresh(cluster: House) -> bool:
    return not (await cluster.view()).directory_is_stale


async def is_rebuilt(cluster: House, owners: set[str]) -> bool:
    """Every worker's record, and what each owns, are in Redis again."""
    keys = Keys("local")
    names = [process.spec.name for process in cluster.workers()]
    wanted = [keys.worker(WorkerId(name)) for name in names] + [keys.owned(WorkerId(name)) for name in owners]
    secret = read_secret(ClusterSection(secret_file=str(cluster.cluster.run_dir / "secret")))
    section = ClusterSection(redis_url=cluster.valkey.url, redis_login="role")
    store = connect(section, LivenessSection(), user=RedisUser.ROUTER, secret=secret)
    try:
        return None not in await store.read(wanted)
    except Unavailable:
        return False
    finally:
        await store.drop()


async def metric(cluster: House, name: str) -> float:
    """One gauge of the router, as its metrics endpoint shows it."""
    found = await samples(cluster.worker(Kind.ROUTER))
    return next(value for key, value in found.items() if key.startswith(f"baton_{name}"))
