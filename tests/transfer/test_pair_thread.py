"""The thread of one pair, without any library in it."""

import asyncio
import gc
import threading
from typing import Any

import pytest

from common.core.errors import TransferFailed
from common.transfer.pair_thread import PairThread
from tests.transfer.test_channel_conformance import make_pair


async def test_an_opening_that_fails_behind_its_deadline_is_not_told_as_an_error_that_nobody_heard() -> None:
    heard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: heard.append(context))
    may_end = threading.Event()

    def build() -> object:
        may_end.wait(10.0)
        raise RuntimeError("too late")

    thread = PairThread[object]("late", make_pair(), build)
    with pytest.raises(TransferFailed):
        await thread.open(0.05)
    may_end.set()
    await asyncio.wait_for(thread.ended, 10.0)
    del thread
    gc.collect()
    await asyncio.sleep(0)
    assert heard == []
