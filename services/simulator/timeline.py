"""Virtual time: what happens next, in order, and ties in the order in which they were asked for."""

from collections.abc import Callable
from heapq import heappop, heappush


class Timeline:
    """Writer: whoever runs it. Nothing here waits: time is what the next event says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.num_events = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._asked = 0

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Call `what` then; not before now."""
        self._asked += 1
        heappush(self._events, (max(when, self.now), self._asked, what))

    def run_until(self, when: float) -> None:
        """Everything up to and including this moment."""
        events = self._events
        while events and events[0][0] <= when:
            self.now, _order, what = heappop(events)
            self.num_events += 1
            what()
        self.now = max(self.now, when)

    def run_out(self) -> None:
        """Everything that is left."""
        while self._events:
            self.run_until(self._events[0][0])
