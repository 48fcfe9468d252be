"""What a core shows of itself between two turns."""

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, fields
from functools import cache
from operator import attrgetter
from typing import Any, ClassVar, Protocol

from common.core.worker import LoadReport


class Counters(Protocol):
    """A dataclass of numbers."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


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


def totals(*counters: Counters) -> dict[str, float]:
    """Flat counters by name, as they are now. Asked for after every turn: `asdict` copies every value as if it were a
    tree, and took a tenth of a millisecond of each step."""
    found: dict[str, float] = {}
    for each in counters:
        names, read = _reader(type(each))
        found.update(zip(names, read(each), strict=True))
    return found


@cache
def _reader(kind: type[Counters]) -> tuple[tuple[str, ...], Callable[[object], tuple[float, ...]]]:
    """A kind's names, and what reads them all. `attrgetter` of one name would give no tuple."""
    names = tuple(field.name for field in fields(kind))
    assert len(names) > 1, f"{kind.__name__} counts {len(names)} things"
    return names, attrgetter(*names)
