"""What a connection hears on its way to the one who reads it: one wake-up for all that came together."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Generic, TypeVar

from common.core.errors import BatonError

Item = TypeVar("Item")


class Feed(Generic[Item]):
    """Writer: a connection; reader: one task. Bounded by the answer's length, which its asker chose."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._error: BatonError | None = None
        self._is_over = False
        self._reader: asyncio.Future[None] | None = None

    def put(self, item: Item) -> None:
        self._items.append(item)
        self._wake()

    def end(self, error: BatonError | None = None) -> None:
        """Nothing comes any more. The reader still gets what is here, then the error. The first call counts."""
        if not self._is_over:
            self._is_over, self._error = True, error
            self._wake()

    async def items(self) -> AsyncGenerator[Item, None]:
        """All of them, in order. Raises the error that ended the feed."""
        while True:
            while self._items:
                yield self._items.popleft()
            if self._is_over:
                if self._error is not None:
                    raise self._error
                return
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader  # bounded: a connection that is silent for long ends its feeds
            finally:
                self._reader = None

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
