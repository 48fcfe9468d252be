"""The first line that a worker's log has about its end is the cause, with its trace; it ends once."""

import asyncio

from structlog.testing import capture_logs

from common.core.errors import InternalError, Unavailable
from common.worker.downfall import Downfall


async def buggy() -> None:
    raise ZeroDivisionError("of zero pages")


async def test_what_is_told_first_is_the_cause_and_the_rest_follows_from_it() -> None:
    over = asyncio.Event()
    downfall = Downfall(over.set)
    with capture_logs() as lines:
        await downfall.guard(buggy())
        downfall.note(RuntimeError("TaskGroup is finished"))
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("worker_failed", "error"),
        ("worker_failed_further", "warning"),
    ]
    assert lines[0]["exc_info"].__traceback__ is not None
    assert isinstance(downfall.cause, InternalError)
    assert "of zero pages" in downfall.cause.message
    await asyncio.wait_for(over.wait(), 1.0)


async def test_a_failure_with_a_name_keeps_it_and_an_heir_is_no_failure() -> None:
    ended = Unavailable(message="the step loop is over")
    downfall = Downfall(lambda: None)
    with capture_logs() as lines:
        downfall.begin(ended)
        downfall.begin(InternalError(message="superseded"))
    assert downfall.cause is ended
    assert not lines


async def test_a_failure_on_another_thread_ends_the_worker_on_its_loop() -> None:
    over = asyncio.Event()
    downfall = Downfall(over.set)
    await asyncio.to_thread(downfall.note, ZeroDivisionError("a step"))
    assert isinstance(downfall.cause, InternalError)
    assert "a step" in downfall.cause.message
    await asyncio.wait_for(over.wait(), 1.0)
