"""Between the processes stands a proxy, as a service mesh has one, that ends connections when they are seconds old."""

import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.cluster.drive import PAGE_SIZE, SLOW_SIM, check_all, prompts
from tests.cluster.house import House
from tests.cluster.ports import stable_port
from tests.cluster.relay import GrpcRelay, Weather

pytestmark = [pytest.mark.cluster, pytest.mark.calm, pytest.mark.asyncio(loop_scope="module")]

NAMES = ("prefill-0", "decode-0", "decode-1")
LISTEN = {name: stable_port() for name in NAMES}
ADVERTISED = {name: stable_port() for name in NAMES}
HOUSE = {
    "decode": 2,
    "settings": SLOW_SIM,
    "of_process": {
        name: (f"listen.port={LISTEN[name]}", f"listen.advertise=127.0.0.1:{ADVERTISED[name]}") for name in NAMES
    },
}
SEED = 24_001
AGES = (("grpc.max_connection_age_ms", 2000), ("grpc.max_connection_age_grace_ms", 500))
"""Of production's proxies minutes or hours; here every answer meets it."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def proxies() -> AsyncIterator[None]:
    """In place before the cluster starts: its processes know each other by these addresses only."""
    calm = Weather(random.Random(SEED))
    relays = [GrpcRelay(ADVERTISED[name], LISTEN[name], weather=calm, options=AGES) for name in NAMES]
    for relay in relays:
        await relay.start()
    yield
    for relay in relays:
        await relay.stop()


async def test_connections_that_a_proxy_ends_again_and_again_cost_no_token(cluster: House) -> None:
    """GOAWAY, and what still runs behind its grace is cut: streams of events, too."""
    asks = [
        *prompts(8, length=6 * PAGE_SIZE, max_tokens=400, seed=SEED),
        *prompts(24, length=6 * PAGE_SIZE, max_tokens=30, seed=SEED + 1),
    ]
    told = await cluster.ask_all(asks, at_once=12)
    check_all(asks, told)
    figures = (await cluster.view()).figures
    longest = max(each.longest_silence_s for each in told)
    assert figures["placements"] > len(asks), "the proxies ended nothing"
    print(f"{figures['placements']:.0f} placements, {figures['retries']:.0f} retries, longest silence {longest:.2f} s")
