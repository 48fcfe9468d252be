"""Attempts that are over, perhaps before they arrived: a late start must not wake them."""

from collections import OrderedDict

from common.core.ids import RequestId


class Tombstones:
    """The last `capacity` requests with the highest attempt that is over. Writer: whoever owns it."""

    def __init__(self, capacity: int = 4096) -> None:
        self._capacity = capacity
        self._dead: OrderedDict[RequestId, int] = OrderedDict()

    def add(self, request: RequestId, attempt: int) -> None:
        """Every attempt up to this one is over."""
        self._dead[request] = max(attempt, self._dead.get(request, 0))
        self._dead.move_to_end(request)
        while len(self._dead) > self._capacity:
            self._dead.popitem(last=False)

    def covers(self, request: RequestId, attempt: int) -> bool:
        return attempt <= self._dead.get(request, 0)
