"""One cluster per module where its faults allow that; after every test the cluster must be whole again and at rest."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.cluster.house import House, house
from tests.standing import kept_open

START_S = 100.0
"""Four processes on an idle machine: three seconds. The others on a busy one wait for the CPU."""


@pytest.fixture(autouse=True)
def _nothing_left_running() -> None:
    """In place of the usual check: processes of a standing cluster come and go. `house` looks when all have ended."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def standing(request: pytest.FixtureRequest) -> AsyncIterator[House]:
    """The module's cluster, as its HOUSE says."""
    async with kept_open(house(**request.module.HOUSE), START_S) as cluster:
        yield cluster


@pytest_asyncio.fixture(loop_scope="module")
async def cluster(standing: House) -> AsyncIterator[House]:
    """The standing cluster for one test: complete before it; complete, answering and at rest after it."""
    await standing.wait_whole()
    yield standing
    await standing.wait_whole()
    await standing.ask_canary()
    await standing.check_invariants()
