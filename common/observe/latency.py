"""Durations out of lifetimes: which two stations each histogram lies between."""

from common.core.request import Priority
from common.observe import catalogue
from common.observe.lifetime import Lifetime, Station
from common.observe.registry import Metrics

_BY_PRIORITY = (
    (catalogue.QUEUE_SECONDS, Station.QUEUED, Station.ADMITTED),
    (catalogue.TTFT_SECONDS, Station.RECEIVED, Station.FIRST_TOKEN),
    (catalogue.E2E_SECONDS, Station.RECEIVED, Station.FINISHED),
)
_PLAIN = (
    (catalogue.PREFILL_SECONDS, Station.ADMITTED, Station.FIRST_TOKEN),
    (catalogue.HANDOFF_SECONDS, Station.FIRST_TOKEN, Station.RUNNING),
)


def observe_latencies(metrics: Metrics, lifetime: Lifetime, priority: Priority) -> None:
    """Once per request that ended well, at the router. A duration whose stations are missing is left out."""
    for metric, start, end in _BY_PRIORITY:
        if (seconds := lifetime.seconds(start, end)) is not None:
            metrics.observe(metric, seconds, priority=priority)
    for metric, start, end in _PLAIN:
        if (seconds := lifetime.seconds(start, end)) is not None:
            metrics.observe(metric, seconds)
