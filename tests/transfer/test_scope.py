"""Work in the background: a bug there is said, and ends nobody else's work."""

import asyncio

from structlog.testing import capture_logs

from common.transfer.counters import TransferCounters
from common.transfer.scope import TaskScope


async def test_a_bug_in_the_background_is_logged_with_its_task_and_where_it_was() -> None:
    """A counter alone says that there was one, and nobody could say which."""
    counters = TransferCounters()

    async def fail() -> None:
        raise AttributeError("no such method")

    with capture_logs() as lines:
        async with TaskScope(counters) as scope:
            scope.spawn(fail(), name="keys of a pair")
            scope.spawn(asyncio.sleep(0), name="another")
            while len(scope):
                await asyncio.sleep(0)
    (line,) = lines
    assert (line["event"], line["task"], line["log_level"]) == ("transfer_bug", "keys of a pair", "error")
    assert isinstance(line["exc_info"], AttributeError)
    assert counters.incidents["bug"] == 1
