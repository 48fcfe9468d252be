"""How many calls to routers run at a time: a body of 128 prompts may not push everybody else's question away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from common.core.errors import Reason, Refused

WAIT_S = 30.0
"""Chosen: how long a call waits for its place; a client has given up or goes on waiting in a router's line by then."""

RETRY_S = 1.0
"""Chosen: whoever waited for WAIT_S in vain meets the same crowd sooner."""


class Places:
    """Of one process, given in the order in which they were asked for. `per_exchange`: what one HTTP request may hold
    or wait for, so that a large one stands in the line as often as a few small ones, not as often as it has prompts.
    """

    def __init__(self, num_places: int, *, per_exchange: int) -> None:
        self.per_exchange = per_exchange
        self._free = asyncio.Semaphore(num_places)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """A place inside the block. Raises Refused where none came free in time."""
        try:
            async with asyncio.timeout(WAIT_S):
                await self._free.acquire()
        except TimeoutError as error:
            message = "this gateway has as many requests under way as it may: try again"
            raise Refused(message=message, reason=Reason.LOAD_SHED, retry_after_s=RETRY_S) from error
        try:
            yield
        finally:
            self._free.release()
