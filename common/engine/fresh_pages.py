"""Page memory that nobody has touched yet is taken from the system while the step loop has nothing to compute.

The first touch of fresh memory costs whoever makes it: the kernel clears it, and where this machine is a virtual one
its host finds it first. Measured on such a machine: 2 to 3 ms per MiB, so that a prompt of 12 MiB cost the step that
read it 27 ms, and nearly as much again where it landed. A pool that nobody uses still takes nothing.
"""

from common.core.ids import PageId
from common.kv.cache import PageCache
from common.kv.storage import PageStorage

TIMES_USED = 3
"""Chosen: a worker that held a few prompts has room for the next dozen, and takes at most four times what it needed."""

MAX_AHEAD_BYTES = 512 * 2**20
"""Chosen: half a minute of prompts of 1,000 tokens, one a second, on a small model."""


class FreshPages:
    """Writer: the step loop, between two turns. Pages beyond those that the pool ever gave out are nobody's, so they
    may be cleared without asking."""

    def __init__(self, cache: PageCache, storage: PageStorage) -> None:
        self._cache = cache
        self._storage = storage
        self._most_ahead = max(1, MAX_AHEAD_BYTES // storage.layout.page_bytes)
        self._num_touched = 0

    def touch(self) -> bool:
        """Touch one page ahead of the pool. False: there are enough."""
        num_used = self._cache.num_used_ever
        end = min(self._storage.num_pages, num_used + min(TIMES_USED * num_used, self._most_ahead))
        self._num_touched = max(self._num_touched, num_used)
        if self._num_touched >= end:
            return False
        self._storage.zero(PageId(self._num_touched))
        self._num_touched += 1
        return True
