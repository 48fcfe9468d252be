"""How many choices are on their way off each worker that drains: a few at a time, so that each pauses for its own pages
and not for everybody's. Who would write longest goes first: those behind may end meanwhile.

    a leg is warned -> begin: a slot per choice -> asked, kept, reserved elsewhere, fetched -> arrived: the next one
                                 '--------- not given away, laid down, lost ----------> abandoned

In the first half of the grace there are as many slots as all moves need, if they take as long as they took lately. What
is there after it may go at once: a late move pauses longer, a cut one is read again.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from common.core.clock import Clock
from common.core.ids import WorkerRef
from services.router.inbox import Draining

AT_ONCE = 4
"""Chosen: enough to keep a link busy while others are reserved and landed."""

PACED_SHARE = 0.5
"""Chosen: of the grace. The rest is for moves that fail and for those that found no room."""

FIRST_GUESS_S = 0.25
"""Chosen: what a move takes while none has been seen; a thousand tokens' pages between two loaded processes."""

FADING = 0.2
"""Chosen: weight of the latest move in their mean duration."""


def at_once(draining: Draining, move_s: float) -> int | None:
    """Choices that may be under way together. None: as many as there are."""
    paced_s = draining.left_s - (1 - PACED_SHARE) * draining.grace_s
    if paced_s <= 0:
        return None
    return max(AT_ONCE, math.ceil(draining.num_sequences * move_s / paced_s))


@dataclass(eq=False, slots=True)
class Slot:
    """One choice on its way. Its first end counts."""

    moves: "Moves"
    worker: WorkerRef
    began_at: float
    is_open: bool = True

    def arrived(self) -> None:
        """It is written elsewhere: the next one may begin."""
        if self.is_open:
            self._close()
            self.moves.note_arrival(self)

    def abandoned(self) -> None:
        """It is not on its way any more. The next one begins when the worker is heard again: what failed at once would
        be tried without a pause."""
        if self.is_open:
            self._close()

    def _close(self) -> None:
        self.is_open = False
        self.moves.under_way[self.worker] -= 1
        if not self.moves.under_way[self.worker]:
            del self.moves.under_way[self.worker]


class Moves:
    """Of one router. Writer: its legs, on its event loop. `call_next` has the legs on a worker asked once more."""

    def __init__(self, clock: Clock, call_next: Callable[[WorkerRef], None]) -> None:
        self._clock = clock
        self._call_next = call_next
        self._move_s = FIRST_GUESS_S
        self.under_way: Counter[WorkerRef] = Counter()

    def may_begin(self, worker: WorkerRef, draining: Draining) -> bool:
        most = at_once(draining, self._move_s)
        return most is None or self.under_way[worker] < most

    def begin(self, worker: WorkerRef, num_choices: int) -> tuple[Slot, ...]:
        """They leave together, be they more than may be under way."""
        self.under_way[worker] += num_choices
        now = self._clock.monotonic()
        return tuple(Slot(self, worker, now) for _ in range(num_choices))

    def note_arrival(self, slot: Slot) -> None:
        """A choice is written elsewhere."""
        took_s = self._clock.monotonic() - slot.began_at
        self._move_s += FADING * (took_s - self._move_s)
        self._call_next(slot.worker)
