"""Threads beside the event loop end with whoever made them, and hold up nobody who leaves."""

import asyncio
import threading
import time

import pytest

from common.transfer import offload
from common.transfer.offload import ThreadOffload


async def test_its_threads_are_gone_behind_the_last_function() -> None:
    made, begun = ThreadOffload(2), threading.Event()
    names = {thread.name for thread in threading.enumerate()}

    def work() -> str:
        begun.set()
        time.sleep(0.05)
        return "done"

    running = asyncio.ensure_future(made.run(work))
    await asyncio.to_thread(begun.wait, 5.0)
    await made.end()
    assert await running == "done"
    assert not [each for each in threading.enumerate() if each.name.startswith("offload") and each.name not in names]


async def test_a_function_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offload, "END_S", 0.1)
    made, begun, hangs = ThreadOffload(), threading.Event(), threading.Event()

    def work() -> bool:
        begun.set()
        return hangs.wait(10)

    running = asyncio.ensure_future(made.run(work))
    await asyncio.to_thread(begun.wait, 5.0)
    async with asyncio.timeout(2.0):
        await made.end()
    assert not running.done()
    hangs.set()
    assert await running
    for left in [each for each in threading.enumerate() if each.name.startswith("offload")]:
        await asyncio.to_thread(left.join, 5.0)


async def test_what_waits_for_its_turn_is_not_done_for_who_was_cancelled() -> None:
    made, begun, hold = ThreadOffload(), threading.Event(), threading.Event()
    done: list[str] = []

    def work() -> bool:
        begun.set()
        return hold.wait(10)

    first = asyncio.ensure_future(made.run(work))
    await asyncio.to_thread(begun.wait, 5.0)
    waiting = asyncio.ensure_future(made.run(lambda: done.append("in vain")))
    await asyncio.sleep(0)
    for each in (waiting, first):
        each.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not first.done(), "it reads its caller's buffer"
    hold.set()
    with pytest.raises(asyncio.CancelledError):
        await first
    await made.end()
    assert done == []
