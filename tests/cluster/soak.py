"""A soak's load and its misfortunes: who asks what through which door, and who is killed or frozen meanwhile."""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from common.core.errors import BatonError
from services.local.answer import Answer
from services.local.topology import Kind
from tests.cluster.balancer import Entrance, RouterEntrance
from tests.cluster.house import CLOCK, Ask, House, Told
from tests.cluster.leaving import wait_back

PER_S = 2.0
FROZEN_S = 5.0
"""Longer than a lease: whoever wakes up is forgotten."""
TIMEOUT_S = 150.0
BACK_S = 300.0
"""A start costs seconds of a core: minutes, beside others that want it."""
SLOW_S = 0.3
"""Of a slow reader, between two messages."""
EVERYBODY = (Kind.PREFILL, Kind.DECODE, Kind.ROUTER, Kind.GATEWAY)
MAY_CUT = (Kind.ROUTER, Kind.GATEWAY)
"""A stream ends with its router, or with its gateway; it outlives its workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request and what came of it. `has_left`: its client did not wait for the end."""

    door: str
    ask: Ask
    told: Told
    has_left: bool


@dataclass(slots=True, kw_only=True)
class Storm:
    """What happens, and how often. `cuts`: when an entrance was killed or frozen, and when everybody was back and was
    found again: a client's channel dials an address that refused it only after a while."""

    seconds: float
    every_s: float
    deeds: Sequence[str]
    cuts: list[tuple[float, float]] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)

    @property
    def num_killed(self) -> int:
        return sum(count for what, count in self.happened.items() if what.startswith(("kill ", "router ")))

    async def hit(self, cluster: House, doors: Mapping[str, Entrance], chance: random.Random) -> None:
        """One process at a time. The second of each kind is frozen at times and never killed: it shows what grows."""
        for _ in range(int(self.seconds / self.every_s)):
            began = CLOCK.monotonic()
            deed = chance.choice(self.deeds)
            kind = Kind.ROUTER if deed == "router" else chance.choice(EVERYBODY)
            self.happened[deed if "redis" in deed else f"{deed} {kind}"] += 1
            await _do(deed, kind, cluster, chance)
            for process in cluster.cluster.supervisor.processes.values():
                await wait_back(cluster, process, timeout_s=BACK_S)
            for door in doors.values():
                if isinstance(door, RouterEntrance):
                    await cluster.until(door.is_ready, timeout_s=BACK_S)
            if kind in MAY_CUT and "redis" not in deed:
                self.cuts.append((began, CLOCK.monotonic()))
            await asyncio.sleep(max(0.0, began + self.every_s - CLOCK.monotonic()))


async def _do(deed: str, kind: Kind, cluster: House, chance: random.Random) -> None:
    match deed:
        case "kill" | "router":
            cluster.kill(kind)
        case "freeze":
            await _freeze(cluster.worker(kind, chance.randrange(2)).child.pid)
        case "redis":
            await cluster.valkey.kill()
        case "frozen redis":
            await _freeze(cluster.valkey.pid)
        case _:
            raise AssertionError(deed)


async def _freeze(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(FROZEN_S)
    finally:
        os.kill(pid, signal.SIGCONT)


def draw(chance: random.Random, number: int) -> Ask:
    length = chance.choice([1, 16, 40, 100, 200, 600])
    tokens = tuple(chance.randrange(10, 4000) for _ in range(length))
    ask = Ask(tokens=tokens, max_tokens=chance.randrange(1, 120), seed=number + 1)
    return ask if chance.random() < 0.6 else replace(ask, n=chance.choice([1, 2, 3]), temperature=1.0)


async def load(
    doors: Mapping[str, Entrance], asks: Sequence[Ask], chance: random.Random, *, seconds: float
) -> list[Asked]:
    """So many requests a second, through each door in turn, then to the last answer. Some leave, some read slowly."""
    running: list[asyncio.Task[Asked]] = []
    began = CLOCK.monotonic()
    for number in range(int(seconds * PER_S)):
        await asyncio.sleep(began + number / PER_S - CLOCK.monotonic())
        door = list(doors)[number % len(doors)]
        told = Told(answer=Answer(CLOCK), pause_s=SLOW_S if chance.random() < 0.1 else 0.0)
        leaves_s = chance.random() * 3 if chance.random() < 0.1 else TIMEOUT_S
        running.append(asyncio.create_task(_one(door, doors[door], chance.choice(asks), told, leaves_s=leaves_s)))
    return [await each for each in running]


async def _one(door: str, entrance: Entrance, ask: Ask, told: Told, *, leaves_s: float) -> Asked:
    asking = asyncio.create_task(entrance.ask(ask, told, timeout_s=TIMEOUT_S))
    has_left = not (await asyncio.wait({asking}, timeout=leaves_s))[0]
    asking.cancel()
    try:
        await asyncio.wait({asking})
        if not asking.cancelled():
            asking.result()
    except BatonError as error:
        told.error = error
    told.ended_at = CLOCK.monotonic()
    return Asked(door=door, ask=ask, told=told, has_left=has_left)
