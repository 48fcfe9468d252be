"""What a core shows of itself between two turns."""

from collections.abc import Mapping
from dataclasses import dataclass

from common.core.worker import LoadReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Immutable. `counters` are totals since start by name, page accounting included; they only grow."""

    load: LoadReport
    counters: Mapping[str, float]
    empty_slots: int = 0
    """Slots without a token in referenced pages."""
    reservations: int = 0
    """Promises that are open."""

    @property
    def is_idle(self) -> bool:
        """Nothing waits, runs or is promised."""
        load = self.load
        return not (load.waiting_requests or load.running_sequences or load.pages.promised or load.pages.referenced)
