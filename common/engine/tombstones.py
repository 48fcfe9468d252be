"""Attempts that were cancelled, perhaps before they arrived: a late start must not wake them."""

from collections import OrderedDict

from common.core.ids import RequestId


class Tombstones:
    """The last `capacity` cancelled (request, attempt) pairs. Writer: the core that owns it."""

    def __init__(self, capacity: int = 4096) -> None:
        self._capacity = capacity
        self._dead: OrderedDict[tuple[RequestId, int], None] = OrderedDict()

    def add(self, request: RequestId, attempt: int) -> None:
        self._dead[(request, attempt)] = None
        self._dead.move_to_end((request, attempt))
        while len(self._dead) > self._capacity:
            self._dead.popitem(last=False)

    def __contains__(self, attempt: tuple[RequestId, int]) -> bool:
        return attempt in self._dead
