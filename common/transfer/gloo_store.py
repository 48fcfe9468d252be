"""torch's store interface over a pair's rendezvous store: where the two ranks of a group find each other."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from datetime import timedelta
from typing import Any, TypeVar

from torch._C._distributed_c10d import Store

from common.core.errors import BatonError
from common.transfer.rendezvous import RendezvousStore

Result = TypeVar("Result")


class StoreBridge(Store):
    """Called on the pair thread, answered on the event loop. The prefix is in the keys."""

    def __init__(
        self, store: RendezvousStore, loop: asyncio.AbstractEventLoop, *, prefix: str, timeout_s: float
    ) -> None:
        super().__init__()
        self._prefix = prefix
        self._pair_store = store
        self._home = loop
        self._timeout_s = timeout_s

    def set(self, key: str, value: bytes) -> None:  # type: ignore[override]  # torch says str and passes bytes
        self._call(self._pair_store.put(f"{self._prefix}/{key}", bytes(value)))

    def get(self, key: str) -> bytes:
        value = self._call(self._pair_store.get(f"{self._prefix}/{key}", wait_s=self._timeout_s))
        if value is None:
            raise RuntimeError(f"the other end set no {key} within {self._timeout_s} s")
        return value

    def wait(self, keys: list[str], _timeout: timedelta | None = None) -> None:
        for key in keys:
            self.get(key)

    def _call(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Raises RuntimeError, the one error that passes through torch unharmed."""
        future = asyncio.run_coroutine_threadsafe(work, self._home)
        try:
            return future.result(self._timeout_s)
        except (BatonError, TimeoutError, CancelledError) as error:
            future.cancel()
            raise RuntimeError(f"rendezvous failed: {error}") from None
