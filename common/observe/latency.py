"""Durations out of lifetimes: which two stations each histogram lies between, and which station it is told at."""

from typing import NamedTuple

from common.core.request import Priority
from common.observe import catalogue
from common.observe.lifetime import Lifetime, Station
from common.observe.metric import Metric
from common.observe.registry import Metrics


class _Duration(NamedTuple):
    told_at: Station
    metric: Metric
    start: Station
    end: Station


_DURATIONS = (
    _Duration(Station.ADMITTED, catalogue.QUEUE_SECONDS, Station.QUEUED, Station.ADMITTED),
    _Duration(Station.FIRST_TOKEN, catalogue.TTFT_SECONDS, Station.RECEIVED, Station.FIRST_TOKEN),
    _Duration(Station.FIRST_TOKEN, catalogue.PREFILL_SECONDS, Station.ADMITTED, Station.FIRST_TOKEN),
    # Its two stations come from two workers, in either order, so the hand-over is told when both have spoken.
    _Duration(Station.FINISHED, catalogue.HANDOFF_SECONDS, Station.FIRST_TOKEN, Station.RUNNING),
)


def observe_reached(metrics: Metrics, lifetime: Lifetime, station: Station, priority: Priority) -> None:
    """When a station is reached for the first time at the router, however the request will end.

    Whoever gives up because it is slow has waited, and an answer of minutes does not keep its first token's time to
    itself. A duration whose stations are missing is left out.
    """
    for told_at, metric, start, end in _DURATIONS:
        if told_at is station and (seconds := lifetime.seconds(start, end)) is not None:
            metrics.observe(metric, seconds, **_labels(metric, priority))


def observe_whole(metrics: Metrics, lifetime: Lifetime, priority: Priority) -> None:
    """Once per request that ended well: a call that was given up is none of a length."""
    if (seconds := lifetime.seconds(Station.RECEIVED, Station.FINISHED)) is not None:
        metrics.observe(catalogue.E2E_SECONDS, seconds, priority=priority)


def _labels(metric: Metric, priority: Priority) -> dict[str, str]:
    return {"priority": priority} if catalogue.PRIORITY in metric.labels else {}
