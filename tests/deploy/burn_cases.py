"""Broken promises: each pair of windows alone, once while it goes on, once just begun, once just over."""

from collections.abc import Iterator
from dataclasses import dataclass

from deploy.objectives import BURNS, OBJECTIVES, Burn
from tests.deploy.alert_case import ROUTER, Case, Page, scraped

HOUR = 60
"""In minutes: samples come once a minute."""

TOTAL = 104 * HOUR
"""Of each case: what the longest needs."""

EVERY = "104h"
"""Burn alerts hold for no time: one look, at the end, will do."""

ALL = 1000
"""So often the budget is spent, or oftener, when every event is bad."""

PER_MINUTE, BUSY = 1000, 10_000
"""Requests. The days before the trouble are busier, so that a day's trouble is little within three."""

TROUBLE = {"1h": (20, "5m"), "6h": (10, "30m"), "1d": (4, "2h"), "3d": (2, "6h")}
"""By a pair's long window: how often the budget it is spent, above this pair's factor and below that of the pair
before, and the short window."""

MINUTES = {"5m": 5, "30m": 30, "1h": HOUR, "2h": 2 * HOUR, "6h": 6 * HOUR, "1d": 24 * HOUR, "3d": 72 * HOUR}
NAMES = {"availability": "BatonAvailabilityBurn", "ttft": "BatonFirstTokenBurn", "itl": "BatonTokenGapBurn"}
TTFT, ITL = ("baton_time_to_first_token_seconds", "2.0"), ("baton_inter_token_seconds", "0.1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A stretch in which the budget is spent so many times over."""

    minutes: int
    per_minute: float = PER_MINUTE
    times: float = 0


def counter(phases: tuple[Phase, ...], budget: float, *, is_bad: bool) -> str:
    """Of bad events, or of good ones, in promtool's notation: it grows evenly within a phase."""
    parts, value = [], 0.0
    for phase in phases:
        bad = phase.per_minute * min(phase.times * budget, 1.0)
        step = bad if is_bad else phase.per_minute - bad
        parts.append(f"{value + step:g}+{step:g}x{phase.minutes - 1}")
        value += step * phase.minutes
    return " ".join(["0", *parts])


def requests(phases: tuple[Phase, ...]) -> dict[str, str]:
    """Beside clients' own mistakes, which are many and count for nothing."""
    minutes = sum(phase.minutes for phase in phases)
    return {
        f"baton_requests_finished_total{{{ROUTER}}}": counter(phases, 0.001, is_bad=False),
        f'baton_requests_failed_total{{{ROUTER},reason="INTERNAL"}}': counter(phases, 0.001, is_bad=True),
        f'baton_requests_failed_total{{{ROUTER},reason="INVALID_REQUEST"}}': f"0+500x{minutes}",
        f'baton_requests_refused_total{{{ROUTER},reason="QUEUE_FULL"}}': f"0x{minutes}",
        f'baton_requests_refused_total{{{ROUTER},reason="RATE_LIMITED"}}': f"0+500x{minutes}",
    }


def latency(metric: str, edge: str, phases: tuple[Phase, ...]) -> dict[str, str]:
    where = f'{ROUTER},priority="interactive"'
    everything = counter(phases, 0, is_bad=False)
    return {
        f"{metric}_count{{{where}}}": everything,
        f'{metric}_bucket{{{where},le="{edge}"}}': counter(phases, 0.01, is_bad=False),
        f'{metric}_bucket{{{where},le="+Inf"}}': everything,
        # Who may wait is not asked.
        f'{metric}_count{{{ROUTER},priority="batch"}}': everything,
        f'{metric}_bucket{{{ROUTER},priority="batch",le="{edge}"}}': f"0x{TOTAL}",
    }


def everything(phases: tuple[Phase, ...]) -> dict[str, str]:
    """All promises, broken alike."""
    return scraped(TOTAL) | requests(phases) | latency(*TTFT, phases) | latency(*ITL, phases)


def history(*last: Phase) -> tuple[Phase, ...]:
    """Good and busy days, then this."""
    return (Phase(minutes=TOTAL - sum(phase.minutes for phase in last), per_minute=BUSY), *last)


def told(burn: Burn, times: float) -> tuple[Page, ...]:
    """Somebody is told of each promise."""
    suffix = "Fast" if burn.severity == "page" else "Slow"
    shares = {each.name: f"{times * each.budget * 100:.4g}%" for each in OBJECTIVES}
    return tuple(
        Page(alert=f"{NAMES[name]}{suffix}", summary=f"{name}: {share} of events are bad")
        for name, share in shares.items()
    )


def burn_cases() -> Iterator[Case]:
    for burn in BURNS:
        times, short = TROUBLE[burn.long]
        pair, long_, short_ = f"{burn.long}/{burn.short}", MINUTES[burn.long], MINUTES[short]
        assert burn.short == short
        situations = {
            "goes on": (Phase(minutes=long_ + 10, times=times),),
            "has just begun": (Phase(minutes=short_ + 2, times=times),),
            "is just over": (Phase(minutes=long_, times=times), Phase(minutes=short_ + 2)),
        }
        for what, phases in situations.items():
            fires = told(burn, times) if what == "goes on" else ()
            rests = () if fires else tuple(page.alert for page in told(burn, times))
            series = everything(history(*phases))
            yield Case(name=f"{pair}: trouble {what}", series=series, fires=fires, rests=rests, minutes=TOTAL)


def nightly(bad: int) -> dict[str, str]:
    """A dozen requests an hour after quiet days, one every five minutes, of which the last so many are bad."""
    good, last = Phase(minutes=2 * HOUR - 5 * bad, per_minute=0.2), Phase(minutes=5 * bad, per_minute=0.2, times=ALL)
    return everything((Phase(minutes=TOTAL - 2 * HOUR, per_minute=0), good, last))


def nightly_cases() -> Iterator[Case]:
    """Never for a failure or two: where hardly anybody asks, each is a large share."""
    pages = tuple(
        Page(alert=f"{alert}{speed}", summary=f"{name}: {share} of events are bad")
        for name, alert in NAMES.items()
        for speed, share in (("Fast", "50%"), ("Slow", "25%"))
    )
    yield Case(name="half of a nightly dozen", series=nightly(6), fires=pages, minutes=TOTAL)
    rests = tuple(page.alert for page in pages)
    yield Case(name="one of a nightly dozen", series=nightly(1), rests=rests, minutes=TOTAL)


BURN_CASES = (*burn_cases(), *nightly_cases())
