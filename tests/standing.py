"""What stands while several tests use it, in a task of its own: what a task opened, the same task must close."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

Thing = TypeVar("Thing")


@asynccontextmanager
async def kept_open(opening: AbstractAsyncContextManager[Thing], start_s: float) -> AsyncIterator[Thing]:
    """`opening` entered, and left at the end. Raises what kept it from being there within `start_s`."""
    made: asyncio.Future[Thing] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def keep() -> None:
        async with opening as thing:
            made.set_result(thing)
            await over.wait()

    keeper = asyncio.create_task(keep())
    either: set[asyncio.Future[Any]] = {keeper, made}
    await asyncio.wait(either, timeout=start_s, return_when=asyncio.FIRST_COMPLETED)
    if not made.done():
        keeper.cancel()
        await keeper
    yield made.result()
    over.set()
    await keeper
