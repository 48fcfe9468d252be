"""Requests that come in their own time, whether or not earlier ones were answered."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.cluster.house import CLOCK, Ask, House, Told


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """One request: when it came, in seconds since the first moment, what it was, and what it was told."""

    at: float
    ask: Ask
    told: Told


def fresh(ask: Ask, chance: random.Random) -> Ask:
    """The same request with a prompt that no other shares."""
    return replace(ask, tokens=tuple(chance.randrange(512) for _ in ask.tokens))


def every(interval_s: float, ask: Ask, *, start: float, end: float, chance: random.Random) -> list[tuple[float, Ask]]:
    """At random moments, `interval_s` apart in the mean."""
    arrivals, at = [], start
    while (at := at + chance.expovariate(1 / interval_s)) < end:
        arrivals.append((at, fresh(ask, chance)))
    return arrivals


async def offer(cluster: House, arrivals: Sequence[tuple[float, Ask]], *, timeout_s: float) -> list[Offered]:
    """Sends each in its time, counted from now. In order of time."""
    began = CLOCK.monotonic()

    async def one(at: float, ask: Ask) -> Offered:
        await asyncio.sleep(max(began + at - CLOCK.monotonic(), 0.0))
        return Offered(at=at, ask=ask, told=await cluster.ask(ask, timeout_s=timeout_s))

    ordered = sorted(arrivals, key=lambda arrival: arrival[0])
    return list(await asyncio.gather(*(one(at, ask) for at, ask in ordered)))


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]
