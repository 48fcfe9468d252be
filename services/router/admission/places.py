"""How many requests the fleet has places for, learnt from refusals. Pure: the caller says what time it is.

A worker refuses for reasons that reports do not show: worst cases, sequences, another router. So the line lets in as
many as ran when the fleet was last found full, one for each that leaves, and tries one more now and then. While that is
placed the next may follow at once; when it is refused there is a pause.
"""

from dataclasses import dataclass

from common.core.request import RANK, Priority

PROBE_S = {Priority.INTERACTIVE: 0.5, Priority.STANDARD: 1.0, Priority.BATCH: 2.0}
"""Chosen: places that came free unseen stay empty no longer. A worker that refused somebody is left alone for a moment,
by higher classes too, so the lower ones try less often."""

LONELY_PROBE_S = 0.05
"""While none of ours is placed, none of ours leaves and makes room. Chosen: a step or two later it is asked again."""


@dataclass(slots=True)
class Places:
    """Of one class and those below it. Writer: the line. `limit` None: nobody was refused so far."""

    limit: int | None = None
    probe_at: float = 0.0

    def has_room(self, num_active: int, num_landing: int, now: float) -> bool:
        """Whether one more may try. Beyond the limit one at a time: `num_landing` are not placed yet."""
        if self.limit is None or num_active < self.limit:
            return True
        return num_landing == 0 and now >= self.probe_at

    def note_landed(self, num_placed: int) -> None:
        """So many stand now: there are at least as many places."""
        if self.limit is not None:
            self.limit = max(self.limit, num_placed)

    def note_refused(self, num_placed: int, probe_at: float) -> None:
        """One was refused while so many stood."""
        self.limit = num_placed
        self.probe_at = probe_at


class AllPlaces:
    """Places of every class. Writer: the line. Workers keep a reserve from lower classes, so what refuses a lower
    class says nothing about a higher one; what refuses a higher one does for all below."""

    def __init__(self) -> None:
        self._places = {priority: Places() for priority in Priority}

    def has_room(self, priority: Priority, *, num_active: int, num_landing: int, now: float) -> bool:
        return self._places[priority].has_room(num_active, num_landing, now)

    def limit(self, priority: Priority) -> int | None:
        """What is known of one class; None: the fleet was never full for it."""
        return self._places[priority].limit

    def note_landed(self, priority: Priority, num_placed: int) -> None:
        for each in _from(priority, is_upwards=True):
            self._places[each].note_landed(num_placed)

    def note_refused(self, priority: Priority, num_placed: int, now: float) -> None:
        for each in _from(priority, is_upwards=False):
            self._places[each].note_refused(num_placed, now + probe_s(each, num_placed))


def probe_s(priority: Priority, num_placed: int) -> float:
    """How long after a refusal the next one of a class may try."""
    return PROBE_S[priority] if num_placed else LONELY_PROBE_S


def _from(priority: Priority, *, is_upwards: bool) -> list[Priority]:
    """The class itself and those above it, or those below."""
    rank = RANK[priority]
    return [each for each in Priority if (RANK[each] <= rank if is_upwards else RANK[each] >= rank)]
