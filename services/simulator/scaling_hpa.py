"""A HorizontalPodAutoscaler on external metrics, as Kubernetes computes it. Pure.

Every sync, per metric: an average value asks for ceil(value / target), a plain value for ceil(value / target * ready);
within the tolerance either asks for what there is. The most that a metric asks for counts; one that is missing forbids
to go down. Of a scale-down the highest recommendation of the stabilisation window counts; policies bound how far either
goes per period.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

SYNC_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HpaSettings:
    """Up: the larger of `up_percent` and `up_pods` per `up_period_s`. Down: `down_pods` per `down_period_s`, after
    `down_window_s`. Defaults are those of our chart for prefill; tolerance is Kubernetes'."""

    least: int = 1
    most: int = 8
    tolerance: float = 0.1
    up_percent: int = 100
    up_pods: int = 2
    up_period_s: float = 60.0
    down_window_s: float = 300.0
    down_pods: int = 1
    down_period_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A metric at one sync. `value` None: missing. `is_average`: its target is per replica (AverageValue), not of the
    whole (Value)."""

    value: float | None
    target: float
    is_average: bool = True


@dataclass(slots=True)
class Hpa:
    """One HPA. Writer: whoever syncs it."""

    settings: HpaSettings = field(default_factory=HpaSettings)
    recommended: list[tuple[float, int]] = field(default_factory=list)
    scaled: list[tuple[float, int]] = field(default_factory=list)
    """When, and by how many."""

    def sync(self, metrics: Sequence[Shown], replicas: int, now: float, *, ready: int | None = None) -> int:
        """The replicas to set. `ready` of them take work; None: all do."""
        settings = self.settings
        asked = [
            self._proportional(metric, metric.value, replicas, replicas if ready is None else ready)
            for metric in metrics
            if metric.value is not None
        ]
        wanted = max(asked, default=replicas)
        if not asked or (len(asked) < len(metrics) and wanted < replicas):
            return replicas
        self.recommended = [(at, count) for at, count in self.recommended if at > now - settings.down_window_s]
        self.recommended.append((now, wanted))
        if wanted < replicas:
            wanted = min(replicas, max(count for _at, count in self.recommended))
        wanted = max(settings.least, min(settings.most, self._limited(wanted, replicas, now)))
        if wanted != replicas:
            self.scaled.append((now, wanted - replicas))
        return wanted

    def _proportional(self, metric: Shown, value: float, replicas: int, ready: int) -> int:
        whole = metric.target * replicas if metric.is_average else metric.target
        if replicas and abs(value / whole - 1.0) <= self.settings.tolerance:
            return replicas
        return math.ceil(value / metric.target * (1 if metric.is_average else ready))

    def _limited(self, wanted: int, replicas: int, now: float) -> int:
        settings = self.settings
        longest_s = max(settings.up_period_s, settings.down_period_s)
        self.scaled = [(at, change) for at, change in self.scaled if at > now - longest_s]
        if wanted > replicas:
            added = sum(change for at, change in self.scaled if change > 0 and at > now - settings.up_period_s)
            start = replicas - added
            most = max(start + settings.up_pods, math.ceil(start * (1 + settings.up_percent / 100)))
            return min(wanted, max(most, replicas))
        removed = sum(-change for at, change in self.scaled if change < 0 and at > now - settings.down_period_s)
        return max(wanted, min(replicas, replicas + removed - settings.down_pods))
