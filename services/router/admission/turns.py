"""Which class goes next: strictly the highest, but one that is old gets a share of the turns. Pure."""

from collections.abc import Iterator, Sequence

from services.router.admission.queue import ClassQueue, Entry

AGEING_S = 5.0
"""Chosen: a class that waits this long is not merely behind a burst."""

AGED_EVERY = 8
"""Chosen: what waits long gets an eighth of the turns, so that it moves on, and costs those above it little."""

STARVED_S = 120.0
"""Chosen: until then an old request that does not fit lets higher classes pass; after it they wait until it fits."""


class Turns:
    """Writer: the line. `queues` are those in which somebody waits, the highest class first."""

    def __init__(self) -> None:
        self._num_over_aged = 0

    def candidates(self, queues: Sequence[ClassQueue], now: float) -> Iterator[tuple[Entry, bool]]:
        """Who may be next, and whether those after it wait until it fits: one that is old, if its turn has come, and
        the first."""
        if not queues:
            return
        aged = [queue for queue in queues[1:] if _age_s(queue, now) >= AGEING_S]
        if aged:
            queue = max(aged, key=lambda queue: _age_s(queue, now))
            entry, age_s = queue.next(), _age_s(queue, now)
            if entry is not None and (self._num_over_aged >= AGED_EVERY - 1 or age_s >= STARVED_S):
                yield entry, age_s >= STARVED_S
        first = queues[0].next()
        assert first is not None, "an occupied queue has a first"
        yield first, True

    def count(self, entry: Entry, queues: Sequence[ClassQueue], now: float) -> None:
        """This one is let in. Counts turns that the highest class had while a lower one was old."""
        highest, *lower = queues
        is_over_aged = entry.ticket.priority is highest.priority and any(
            _age_s(queue, now) >= AGEING_S for queue in lower
        )
        self._num_over_aged = self._num_over_aged + 1 if is_over_aged else 0


def _age_s(queue: ClassQueue, now: float) -> float:
    oldest = queue.oldest()
    return 0.0 if oldest is None else now - oldest
