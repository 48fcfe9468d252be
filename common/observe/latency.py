"""Durations out of lifetimes: which two stations each histogram lies between, and which station it is told at."""

from common.core.request import Priority
from common.observe import catalogue
from common.observe.lifetime import Lifetime, Station
from common.observe.registry import Metrics

_BY_PRIORITY = {
    Station.ADMITTED: ((catalogue.QUEUE_SECONDS, Station.QUEUED, Station.ADMITTED),),
    Station.FIRST_TOKEN: ((catalogue.TTFT_SECONDS, Station.RECEIVED, Station.FIRST_TOKEN),),
}
_PLAIN = {
    Station.FIRST_TOKEN: ((catalogue.PREFILL_SECONDS, Station.ADMITTED, Station.FIRST_TOKEN),),
    Station.FINISHED: ((catalogue.HANDOFF_SECONDS, Station.FIRST_TOKEN, Station.RUNNING),),
}


def observe_reached(metrics: Metrics, lifetime: Lifetime, station: Station, priority: Priority) -> None:
    """When a station is reached for the first time at the router, however the request will end.

    Whoever gives up because it is slow has waited, and an answer of minutes does not keep its first token's time to
    itself. The hand-over is told at the end, since its stations come from two workers. A duration whose stations are
    missing is left out.
    """
    for metric, start, end in _BY_PRIORITY.get(station, ()):
        if (seconds := lifetime.seconds(start, end)) is not None:
            metrics.observe(metric, seconds, priority=priority)
    for metric, start, end in _PLAIN.get(station, ()):
        if (seconds := lifetime.seconds(start, end)) is not None:
            metrics.observe(metric, seconds)


def observe_whole(metrics: Metrics, lifetime: Lifetime, priority: Priority) -> None:
    """Once per request that ended well: a call that was given up is none of a length."""
    if (seconds := lifetime.seconds(Station.RECEIVED, Station.FINISHED)) is not None:
        metrics.observe(catalogue.E2E_SECONDS, seconds, priority=priority)
