"""Who holds which page, as a router's mirror would say: the production tables, told with the directory's delay."""

from collections import deque
from collections.abc import Sequence

from common.directory.owners import OwnerTable, Slot
from common.directory.predictions import Predictions
from services.simulator.timeline import Timeline


class Holders:
    """Writer: the machines' pages tell it; what they tell becomes known `delay_s` later."""

    def __init__(self, timeline: Timeline, *, delay_s: float = 0.0) -> None:
        self._timeline = timeline
        self._delay_s = delay_s
        self._table = OwnerTable()
        self._predictions = Predictions()
        self._told: deque[tuple[float, int, Slot, bool]] = deque()

    def open(self) -> Slot:
        """One more machine."""
        return self._table.open()

    def add(self, page: int, slot: Slot) -> None:
        """A machine holds a page from now on."""
        if self._delay_s:
            self._told.append((self._timeline.now + self._delay_s, page, slot, True))
        else:
            self._table.add(slot, (page,))

    def drop(self, page: int, slot: Slot) -> None:
        """A machine lost a page."""
        if self._delay_s:
            self._told.append((self._timeline.now + self._delay_s, page, slot, False))
        else:
            self._table.drop(slot, (page,))

    def predict(self, pages: Sequence[int], slot: Slot) -> None:
        """A prompt was sent to a machine: it will hold these pages soon."""
        self._predictions.add(slot, pages, self._timeline.now)

    def runs(self, pages: Sequence[int], *, is_told: bool = False) -> dict[Slot, int]:
        """Leading pages that each machine holds, or will soon; machines that hold none are left out. `is_told`: without
        what is only thought."""
        while self._told and self._told[0][0] <= self._timeline.now:
            _at, page, slot, is_held = self._told.popleft()
            if is_held:
                self._table.add(slot, (page,))
            else:
                self._table.drop(slot, (page,))
        thought = () if is_told else self._predictions.tables(self._timeline.now)
        return self._table.runs(pages, *thought)
