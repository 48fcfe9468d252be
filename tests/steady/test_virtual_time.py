"""A test marked `virtual_time` runs in time that jumps; its fixtures and parameters are what they were."""

import asyncio
import time

import pytest

from tests.sim.timeloop import TimeLoop

pytestmark = pytest.mark.virtual_time


@pytest.fixture
def hour_s() -> float:
    return 3600.0


@pytest.mark.parametrize("share", [0.1, 0.5])
async def test_an_hour_passes_at_once(hour_s: float, share: float) -> None:
    loop, worked = asyncio.get_running_loop(), time.process_time()
    assert isinstance(loop, TimeLoop)
    await asyncio.sleep(hour_s * share)
    assert loop.time() == pytest.approx(hour_s * share)
    assert time.process_time() - worked < 60


def test_what_is_no_coroutine_runs_as_ever() -> None:
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
