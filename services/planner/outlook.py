"""What the planner last saw and decided: written once per look, read by everybody who is asked."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from common.core.clock import Clock
from common.core.waiting import wait_set
from common.core.worker import Member, Role
from services.planner.actuate import Wish
from services.planner.decide import Recommendation, State, Verdict
from services.planner.load import Signals
from services.planner.numbers import Number, number

MAX_DECISIONS = 512
"""Chosen: changes of mind that are kept, hours of them; the oldest go."""

STALE_LOOKS = 10
"""Chosen: looks that may be missed before what was seen is no answer any more: the loop hangs."""

MIN_FRESH_S = 5.0
"""Chosen: with looks of milliseconds, as tests have them, a busy machine misses ten in a row."""


class Outlook:
    """Writer: the planner's loop. `changed` is set, and replaced, with every recommendation."""

    def __init__(self, clock: Clock, *, interval_s: float) -> None:
        self._clock = clock
        self._fresh_s = max(STALE_LOOKS * interval_s, MIN_FRESH_S)
        self._signals: Signals | None = None
        self._recommendation: Recommendation | None = None
        self._members: Sequence[Member] = ()
        self._decisions: deque[Mapping[str, object]] = deque(maxlen=MAX_DECISIONS)
        self._changed = asyncio.Event()

    @property
    def state(self) -> State:
        """What the next decision is given."""
        return State() if self._recommendation is None else self._recommendation.state

    @property
    def decisions(self) -> tuple[Mapping[str, object], ...]:
        """What was decided and why, the newest first. Only decisions unlike the one before."""
        return tuple(reversed(self._decisions))

    def wish(self) -> Wish:
        """For whoever sets scales, on whatever thread: what is held is frozen."""
        return Wish(recommendation=self._recommendation, members=self._members)

    def note(
        self, signals: Signals, recommendation: Recommendation, members: Sequence[Member] = ()
    ) -> tuple[Verdict, ...]:
        """The newest look. Returns the verdicts that changed what is wanted, or why."""
        before = self._recommendation
        self._signals, self._recommendation, self._members = signals, recommendation, members
        news = tuple(
            verdict for role in Role if (verdict := recommendation.of(role)) is not None and _is_news(verdict, before)
        )
        for verdict in news:
            load = None if signals.load is None else asdict(signals.load)
            self._decisions.append({"wall": self._clock.wall(), **asdict(verdict), "signals": _plain(load)})
        self._changed.set()
        self._changed = asyncio.Event()
        return news

    def read(self, name: Number) -> float | None:
        """One number; None when it is not known, or too old."""
        signals, recommendation = self._signals, self._recommendation
        if signals is None or self._clock.monotonic() - signals.at > self._fresh_s:
            return None
        return number(name, signals.load, recommendation)

    async def wait_change(self, timeout_s: float) -> bool:
        """Until the next look; False when none came in time."""
        return await wait_set(self._changed, timeout_s)


def _is_news(verdict: Verdict, before: Recommendation | None) -> bool:
    known = None if before is None else before.of(verdict.role)
    return known is None or (known.desired, known.why) != (verdict.desired, verdict.why)


def _plain(value: object) -> object:
    """As JSON takes it: sets as sorted lists."""
    match value:
        case dict():
            return {key: _plain(child) for key, child in value.items()}
        case frozenset():
            return sorted(value)
        case _:
            return value
