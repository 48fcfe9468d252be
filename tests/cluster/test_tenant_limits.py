"""A tenant's limit of concurrent streams holds on two routers together, also while one is killed and comes back."""

import asyncio
import random
from itertools import pairwise

import pytest

from common.core.errors import Reason
from services.local.client import router_client
from services.local.topology import Kind
from tests.cluster.drive import SLOW_SIM
from tests.cluster.house import CLOCK, Ask, House, Told

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

LIMITS = {"one": 1, "three": 3}
HOUSE = {
    "routers": 2,
    "settings": (*SLOW_SIM, "admission.tenants=" + "; ".join(f"{name}: streams={n}" for name, n in LIMITS.items())),
}
ASKING_S = 4.0
SEED = 4402


async def test_no_more_streams_than_the_limit_on_two_routers_whoever_comes_back(cluster: House) -> None:
    """Ten clients of each tenant ask both routers again and again, as fast as they are refused."""
    async with asyncio.TaskGroup() as group:
        asking = {
            tenant: [group.create_task(_ask_on(cluster, tenant, number)) for number in range(10)] for tenant in LIMITS
        }
        await asyncio.sleep(ASKING_S / 4)
        cluster.kill(Kind.ROUTER, 1)
    for tenant, tasks in asking.items():
        told = [each for task in tasks for each in task.result()]
        served = [each for each in told if each.times]
        refused = [each.error.reason for each in told if each.error is not None and not each.times]
        most = _most_at_once(served)
        print(f"{tenant}: {len(served)} served, at most {most} at once, {len(refused)} turned away")
        assert most == LIMITS[tenant]
        assert Reason.RATE_LIMITED in refused


async def _ask_on(cluster: House, tenant: str, number: int) -> list[Told]:
    """One client, one request at a time, for a while."""
    chance, told = random.Random(SEED + number), []
    async with router_client(cluster.cluster.router_address(number % 2)) as client:
        mine, until = House(cluster.cluster, client), CLOCK.monotonic() + ASKING_S
        while CLOCK.monotonic() < until:
            tokens = tuple(chance.randrange(512) for _ in range(8))
            told.append(await mine.ask(Ask(tokens=tokens, max_tokens=10, tenant=tenant)))
            await asyncio.sleep(0.05)
    return told


def _most_at_once(served: list[Told]) -> int:
    """Between its first and its last token a stream surely is one."""
    changes = sorted(
        change for told in served for change in ((told.times[0], 1), (told.times[-1], -1)) if len(told.times) > 1
    )
    most = running = 0
    for (at, change), (later, _) in pairwise([*changes, (float("inf"), 0)]):
        running += change
        if later > at:
            most = max(most, running)
    return most
