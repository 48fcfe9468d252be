"""Where work that would hold up the event loop is done: page digests, and copies of what lands."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from common.transfer.pair_thread import run_aside
from common.transfer.scope import wait_over

END_S = 5.0
"""Chosen: a digest or a copy takes some steps at most; what takes longer will not come back."""

Result = TypeVar("Result")


class Offload(Protocol):
    """Runs a pure function elsewhere. Returns or raises only once it is over, for it reads the caller's buffer, or will
    not begin: what waits for its turn is not done for who was cancelled."""

    async def run(self, function: Callable[[], Result]) -> Result: ...

    async def end(self) -> None:
        """Nothing more is run. Behind the last function, or after END_S without it: a device may hang."""
        ...


class ThreadOffload:
    """A small pool of threads. Owner: whoever makes it, who ends it last."""

    def __init__(self, num_threads: int = 1) -> None:
        self._pool = ThreadPoolExecutor(max_workers=num_threads, thread_name_prefix="offload")

    async def run(self, function: Callable[[], Result]) -> Result:
        begun = self._pool.submit(function)
        work = asyncio.wrap_future(begun)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            if not begun.cancel():
                await wait_over(work)
            raise
        finally:
            del begun, work  # see `outlast`

    async def end(self) -> None:
        ended = run_aside(self.close, "end offload")
        await asyncio.wait({ended}, timeout=END_S)

    def close(self) -> None:
        """Waits for the last function, then ends the threads. For who has no event loop any more."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class InlineOffload:
    """Runs it here and now: for virtual time, where threads would break the order of events."""

    async def run(self, function: Callable[[], Result]) -> Result:
        return function()

    async def end(self) -> None:
        return
