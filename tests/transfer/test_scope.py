"""Work in the background: a bug there is said, and ends nobody else's work."""

import asyncio

import pytest
from structlog.testing import capture_logs

from common.transfer.counters import TransferCounters
from common.transfer.scope import TaskScope
from tests.transfer.rig import Rig

pytestmark = pytest.mark.virtual_time


async def _fail() -> None:
    raise AttributeError("no such method")


async def test_a_bug_in_the_background_is_told_with_its_task_and_spares_the_others() -> None:
    counters = TransferCounters()
    told: list[tuple[str, BaseException]] = []
    done = asyncio.Event()

    async def well() -> None:
        await asyncio.sleep(0)
        done.set()

    async with TaskScope(counters, lambda task, error: told.append((task, error))) as scope:
        scope.spawn(_fail(), name="keys of a pair")
        scope.spawn(well(), name="another")
        await done.wait()
    ((task, error),) = told
    assert (task, str(error)) == ("keys of a pair", "no such method")
    assert counters.incidents["bug"] == 1


async def test_an_endpoint_logs_it() -> None:
    """A counter alone says that there was one, and nobody could say which."""
    rig = Rig()
    end = await rig.add("prefill")
    with capture_logs() as lines:
        end._scope.spawn(_fail(), name="keys of a pair")
        async with asyncio.timeout(5):
            while not lines:
                await asyncio.sleep(0)
    await rig.close()
    (line,) = [each for each in lines if each["event"] == "transfer_bug"]
    assert (line["task"], line["log_level"]) == ("keys of a pair", "error")
    assert isinstance(line["exc_info"], AttributeError)
