"""The description of one metric. The live numbers are in `registry`."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class MetricKind(StrEnum):
    """Counters only grow, gauges move, histograms count observations per bucket."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class ProcessRole(StrEnum):
    """Whose metric it is. Every sample carries it as the label `role`."""

    ROUTER = "router"
    PREFILL = "prefill"
    DECODE = "decode"
    GATEWAY = "gateway"
    PLANNER = "planner"


OTHER = "other"
"""Where values of an open label go once its limit is reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A bounded dimension. Closed: `values` lists all. Open: at most `limit` values, later ones count as `other`."""

    name: str
    values: tuple[str, ...] = ()
    limit: int = 0

    def __post_init__(self) -> None:
        assert bool(self.values) != bool(self.limit), f"label {self.name} is either closed or open"

    @property
    def max_values(self) -> int:
        return len(self.values) or self.limit + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One line of the catalogue. `unit` is the name's suffix: seconds, bytes, ratio, or empty for a plain count."""

    name: str
    kind: MetricKind
    sentence: str
    unit: str
    labels: tuple[Label, ...]
    buckets: tuple[float, ...]
    roles: frozenset[ProcessRole]

    @property
    def max_series(self) -> int:
        """Ceiling of label combinations in one process."""
        total = 1
        for label in self.labels:
            total *= label.max_values
        return total


def closed(name: str, values: Iterable[str]) -> Label:
    """A label whose values are all known."""
    return Label(name=name, values=tuple(str(value) for value in values))


def open_label(name: str, limit: int) -> Label:
    """A label whose values are learnt, up to `limit`."""
    return Label(name=name, limit=limit)
