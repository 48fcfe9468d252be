"""One cluster per module where its faults allow that; after every test the cluster must be whole again and at rest."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.cluster.house import House, house

START_S = 100.0
"""Four processes on an idle machine: three seconds. The others on a busy one wait for the CPU."""


@pytest.fixture(autouse=True)
def _nothing_left_running() -> None:
    """In place of the usual check: processes of a standing cluster come and go. `house` looks when all have ended."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def standing(request: pytest.FixtureRequest) -> AsyncIterator[House]:
    """The module's cluster, as its HOUSE says. It lives in a task of its own: what it opened, the same task closes."""
    made: asyncio.Future[House] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def keep() -> None:
        async with house(**request.module.HOUSE) as cluster:
            made.set_result(cluster)
            await over.wait()

    keeper = asyncio.create_task(keep())
    either: set[asyncio.Future[Any]] = {keeper, made}
    await asyncio.wait(either, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
    if not made.done():
        keeper.cancel()
        await keeper  # raises what kept the cluster from starting
    yield made.result()
    over.set()
    await keeper


@pytest_asyncio.fixture(loop_scope="module")
async def cluster(standing: House) -> AsyncIterator[House]:
    """The standing cluster for one test: complete before it; complete, answering and at rest after it."""
    await standing.wait_whole()
    yield standing
    await standing.wait_whole()
    await standing.ask_canary()
    await standing.check_invariants()
