"""What a calibration adds to the workers' own step timings: hops, turns, landing. Found from requests that were served.

A difference of two queues says nothing of a hop: hops come from requests that nobody was in the way of. The others come
from requests under load, played again on the routes that they took: there are medians of what the replay left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import TypeVar

from services.router.policy import PolicySettings
from services.simulator.calibration import Calibration
from services.simulator.lived import Lived, in_arrival_order, replay, stages_of
from services.simulator.outcome import Served

HOPS_LOCAL, HOPS_REMOTE = 1, 2
"""From the router to the decode worker; and on to the prefill worker."""

HALVINGS = 10
"""Chosen: within a thousandth of the first guess, which may be a queue and takes a few seconds."""

Seconds = float | None

_T = TypeVar("_T")
_Of = Callable[[_T], Seconds]


def fit_overheads(
    alone: Sequence[Lived], lived: Sequence[Lived], calibration: Calibration, settings: PolicySettings
) -> Calibration:
    """`alone`: requests that had the cluster for themselves, one after the other; `lived`: requests under load."""
    hopped = replace(calibration, hop_s=_hop_s(alone), turn_s=0.0, prefill_turn_s=0.0, land_s=0.0)

    def settled(live: _Of[Lived], said: _Of[Served], adding: Callable[[float], Calibration]) -> Calibration:
        """With as much of an overhead as leaves nothing late in the middle."""
        return adding(_root(lambda seconds: _middle(_rest(lived, adding(seconds), settings, live, said))))

    is_any_local = any(_local_itl_s(one) is not None for one in lived)
    itl_s: _Of[Lived] = _local_itl_s if is_any_local else lambda one: one.itl_s
    fitted = settled(itl_s, lambda other: other.itl_s, lambda s: replace(hopped, turn_s=s, prefill_turn_s=s))
    if any(_remote_read_s(one) is not None for one in lived):
        turned = fitted
        fitted = settled(
            _remote_read_s, lambda other: stages_of(other)["read"], lambda s: replace(turned, prefill_turn_s=s)
        )
    read = fitted
    return settled(
        lambda one: one.stages.get("hand_over"),
        lambda other: stages_of(other)["hand_over"],
        lambda s: replace(read, land_s=s),
    )


def _local_itl_s(one: Lived) -> Seconds:
    """Without the gap of a hand-over."""
    return None if one.is_remote else one.itl_s


def _remote_read_s(one: Lived) -> Seconds:
    """Where a prefill worker read."""
    return one.stages.get("read") if one.is_remote else None


def _rest(
    lived: Sequence[Lived],
    fitted: Calibration,
    settings: PolicySettings,
    live: _Of[Lived],
    said: _Of[Served],
) -> list[float]:
    """What was, less what is said, of all requests for which both are known."""
    pairs = zip(in_arrival_order(lived), replay(lived, fitted, settings, as_routed=True), strict=True)
    both = [(live(one), said(other)) for one, other in pairs]
    return [one - other for one, other in both if one is not None and other is not None]


def _root(late_s: Callable[[float], float | None]) -> float:
    """The overhead with which nothing is late in the middle. What makes every step longer makes more answers share
    them, so it is less than what is missing without it. No overhead is negative: then steps were thought too slow."""
    low, high = 0.0, max(0.0, late_s(0.0) or 0.0)
    for _ in range(HALVINGS if high else 0):
        middle = (low + high) / 2
        low, high = (middle, high) if (late_s(middle) or 0.0) > 0 else (low, middle)
    return (low + high) / 2


def _hop_s(alone: Sequence[Lived]) -> float:
    """Of those whose way to the reader is known."""
    ways = [(each.stages.get("place"), HOPS_REMOTE if each.is_remote else HOPS_LOCAL) for each in alone]
    return _middle([place_s / hops for place_s, hops in ways if place_s is not None]) or 0.0


def _middle(values: Sequence[float]) -> float | None:
    return median(values) if values else None
