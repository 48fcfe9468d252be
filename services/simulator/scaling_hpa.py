"""A HorizontalPodAutoscaler on an external metric with an average value per replica, as Kubernetes computes it. Pure.

Every sync: ratio = total / (target * replicas); within the tolerance nothing changes, else ceil(total / target). Of a
scale-down the highest recommendation of the stabilisation window counts; policies bound how far either goes per period.
"""

import math
from dataclasses import dataclass, field

SYNC_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HpaSettings:
    """`target` per replica. Up: the larger of `up_percent` and `up_pods` per `up_period_s`. Down: `down_pods` per
    `down_period_s`, after `down_window_s`. Defaults are those of our chart; tolerance is Kubernetes'."""

    target: float
    least: int = 1
    most: int = 8
    tolerance: float = 0.1
    up_percent: int = 100
    up_pods: int = 2
    up_period_s: float = 60.0
    down_window_s: float = 300.0
    down_pods: int = 1
    down_period_s: float = 60.0


@dataclass(slots=True)
class Hpa:
    """One HPA. Writer: whoever syncs it."""

    settings: HpaSettings
    recommended: list[tuple[float, int]] = field(default_factory=list)
    scaled: list[tuple[float, int]] = field(default_factory=list)
    """When, and by how many."""

    def sync(self, total: float | None, replicas: int, now: float) -> int:
        """The replicas to set. `total` None: the metric is missing, and nothing changes."""
        settings = self.settings
        if total is None:
            return replicas
        wanted = self._proportional(total, replicas)
        self.recommended = [(at, count) for at, count in self.recommended if at > now - settings.down_window_s]
        self.recommended.append((now, wanted))
        if wanted < replicas:
            wanted = min(replicas, max(count for _at, count in self.recommended))
        wanted = max(settings.least, min(settings.most, self._limited(wanted, replicas, now)))
        if wanted != replicas:
            self.scaled.append((now, wanted - replicas))
        return wanted

    def _proportional(self, total: float, replicas: int) -> int:
        settings = self.settings
        if replicas and abs(total / (settings.target * replicas) - 1.0) <= settings.tolerance:
            return replicas
        return math.ceil(total / settings.target)

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
