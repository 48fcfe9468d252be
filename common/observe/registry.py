"""The live numbers of one process. Only this file, its tallies and its aliases touch prometheus_client."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from common.observe.aliases import VllmNames
from common.observe.catalogue import CATALOGUE
from common.observe.metric import OTHER, Label, Metric, MetricKind, ProcessRole
from common.observe.tally import Tally, counting, observing

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_PREPARED_SERIES = 64
"""Chosen: closed labels up to here show zeros from the start, so that alerts see absence as absence."""


disable_created_metrics()  # type: ignore[no-untyped-call]  # the library left it untyped; the series is never read


@dataclass(frozen=True, slots=True)
class _Family:
    """One metric of the catalogue with what prometheus_client made of it."""

    metric: Metric
    collector: Counter | Gauge | Histogram


class Metrics:
    """Counts, sets, observes. Thread-safe. One per process; several may live in one interpreter (simulation, tests).

    Using a metric of another role, or a value outside a closed label, is a bug and asserts.
    """

    def __init__(self, role: ProcessRole) -> None:
        self.role = role
        self._registry = CollectorRegistry(auto_describe=False)
        self._families = {metric.name: self._make(metric) for metric in CATALOGUE if role in metric.roles}
        self._children: dict[tuple[str, tuple[tuple[str, str], ...]], Counter | Gauge | Histogram] = {}
        self._tallies: dict[tuple[str, tuple[tuple[str, str], ...]], Tally] = {}
        self._learnt: dict[tuple[str, str], set[str]] = {}
        self._lock = threading.Lock()
        for family in self._families.values():
            self._prepare(family.metric)

    def add(self, metric: Metric, amount: float = 1, **labels: str) -> None:
        """Counters only, and only upwards."""
        child = self._child(metric, labels)
        assert isinstance(child, Counter), f"{metric.name} is not a counter"
        child.inc(amount)

    def adder(self, metric: Metric, **labels: str) -> Callable[[float], None]:
        """`add` of one series, found once: for what is counted per token, and told in bulk."""
        child = self._child(metric, labels)
        assert isinstance(child, Counter), f"{metric.name} is not a counter"
        return self._tally(metric, labels, lambda: counting(child)).note

    def set(self, metric: Metric, value: float, **labels: str) -> None:
        """Gauges only; no gauge of ours is ever negative."""
        assert value >= 0, f"{metric.name} set to {value}"
        child = self._child(metric, labels)
        assert isinstance(child, Gauge), f"{metric.name} is not a gauge"
        child.set(value)

    def clear(self, metric: Metric, **labels: str) -> None:
        """Gauges only: the value is not known, which is not 0. The series is absent until it is set again."""
        if self._children.pop((metric.name, tuple(labels.items())), None) is not None:
            _, values = self._label_pairs(metric, labels)
            self._families[metric.name].collector.remove(*values)

    def observe(self, metric: Metric, value: float, **labels: str) -> None:
        """Histograms only."""
        child = self._child(metric, labels)
        assert isinstance(child, Histogram), f"{metric.name} is not a histogram"
        child.observe(value)

    def observer(self, metric: Metric, **labels: str) -> Callable[[float], None]:
        """`observe` of one series, found once: for what is observed per token, and told in bulk."""
        child = self._child(metric, labels)
        assert isinstance(child, Histogram), f"{metric.name} is not a histogram"
        return self._tally(metric, labels, lambda: observing(child)).note

    def value(self, metric: Metric, **labels: str) -> float:
        """The present value; of a histogram, how many observations. For tests, `baton top` and invariant checks."""
        self._settle()
        names, values = self._label_pairs(metric, labels)
        sample = f"{metric.name}_count" if metric.kind is MetricKind.HISTOGRAM else metric.name
        found = self._registry.get_sample_value(sample, dict(zip(names, values, strict=True)))
        return found or 0.0

    def total(self, metric: Metric) -> float:
        """The sum over all labels; of a histogram, all observations."""
        self._settle()
        suffix = "_count" if metric.kind is MetricKind.HISTOGRAM else ""
        wanted = f"{metric.name}{suffix}"
        families = self._families[metric.name].collector.collect()
        return sum(sample.value for family in families for sample in family.samples if sample.name == wanted)

    def quantile(self, metric: Metric, share: float) -> float | None:
        """Upper edge of the bucket in which this share of all observations lies; None before the first one."""
        found = self.quantiles(metric, share)
        return found[0] if found else None

    def quantiles(self, metric: Metric, *shares: float) -> list[float]:
        """The `quantile` of each share, read once: half a millisecond a metric. None of them before the first one."""
        self._settle()
        counts: dict[float, float] = {}
        for family in self._families[metric.name].collector.collect():
            for sample in family.samples:
                if sample.name == f"{metric.name}_bucket":
                    edge = float(sample.labels["le"])
                    counts[edge] = counts.get(edge, 0.0) + sample.value
        edges = sorted(counts)
        if not edges or counts[edges[-1]] == 0:
            return []
        inside = [next(edge for edge in edges if counts[edge] >= share * counts[edges[-1]]) for share in shares]
        return [min(edge, metric.buckets[-1]) for edge in inside]

    def speak_vllm(self, model: str) -> None:
        """From now on `render` also tells what vLLM would call by another name. Once."""
        sources = {name: family.collector for name, family in self._families.items()}
        self._registry.register(VllmNames(self.role, model, sources))

    def render(self) -> bytes:
        """The text that Prometheus scrapes. Takes milliseconds: call it off the event loop."""
        self._settle()
        return generate_latest(self._registry)

    def _make(self, metric: Metric) -> _Family:
        names = ("role", *(label.name for label in metric.labels))
        name = metric.name.removesuffix("_total") if metric.kind is MetricKind.COUNTER else metric.name
        match metric.kind:
            case MetricKind.COUNTER:
                return _Family(metric, Counter(name, metric.sentence, names, registry=self._registry))
            case MetricKind.GAUGE:
                return _Family(metric, Gauge(name, metric.sentence, names, registry=self._registry))
            case MetricKind.HISTOGRAM:
                buckets = metric.buckets
                return _Family(
                    metric, Histogram(name, metric.sentence, names, registry=self._registry, buckets=buckets)
                )

    def _prepare(self, metric: Metric) -> None:
        """Create the series of closed labels, so that a counter is exported as 0 before its first event."""
        if metric.max_series > MAX_PREPARED_SERIES or any(label.limit for label in metric.labels):
            return
        combinations: list[dict[str, str]] = [{}]
        for label in metric.labels:
            combinations = [{**labels, label.name: value} for labels in combinations for value in label.values]
        for labels in combinations:
            self._child(metric, labels)

    def _tally(self, metric: Metric, labels: dict[str, str], make: Callable[[], Tally]) -> Tally:
        """One per series, however many note values in it."""
        with self._lock:
            key = (metric.name, tuple(labels.items()))
            if (known := self._tallies.get(key)) is None:
                known = self._tallies[key] = make()
            return known

    def _settle(self) -> None:
        """Before anything is read: the series know what was noted."""
        for tally in tuple(self._tallies.values()):
            tally.settle()

    def _child(self, metric: Metric, labels: dict[str, str]) -> Counter | Gauge | Histogram:
        key = (metric.name, tuple(labels.items()))
        if (known := self._children.get(key)) is not None:
            return known
        names, values = self._label_pairs(metric, labels)
        child: Counter | Gauge | Histogram = self._families[metric.name].collector.labels(
            **dict(zip(names, values, strict=True))
        )
        if values[1:] == tuple(
            labels.values()
        ):  # not a value that became `other`: the cache stays as bounded as labels
            self._children[key] = child
        return child

    def _label_pairs(self, metric: Metric, labels: dict[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        assert metric.name in self._families, f"{metric.name} is not a metric of the {self.role}"
        wanted = tuple(label.name for label in metric.labels)
        assert set(labels) == set(wanted), f"{metric.name} has the labels {wanted}, not {tuple(labels)}"
        values = tuple(self._bounded(metric, label, str(labels[label.name])) for label in metric.labels)
        return ("role", *wanted), (str(self.role), *values)

    def _bounded(self, metric: Metric, label: Label, value: str) -> str:
        if label.values:
            assert value in label.values, f"{metric.name}: {value!r} is no value of {label.name}"
            return value
        with self._lock:
            learnt = self._learnt.setdefault((metric.name, label.name), set())
            if value in learnt:
                return value
            if len(learnt) >= label.limit:
                return OTHER
            learnt.add(value)
            return value
