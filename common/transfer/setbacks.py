"""What stood in the way of better channels, and when each of them is worth another try.

    worth a try --misfit----------> passed over for as long as this incarnation lives: facts do not change
    worth a try --silent, broken--> rests: 30 s at first, twice as long each time in a row --> worth a try
    worth a try --full------------> rests 30 s --> worth a try
    worth a try --opened----------> all is forgotten

Beside what is known of each incarnation stands what is known of each channel: when MAX_IN_ROW openings in a row failed,
whoever the other end was, the channel itself rests, and then one opening at a time finds out whether it works again. A
firewall costs a fleet that restarts a handful of silences, not one for each pair.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum

from common.core.ids import Epoch, WorkerId, WorkerRef

MAX_REMEMBERED_PEERS = 4096
"""Chosen: far above the workers of one cluster; a peer that is forgotten costs one more try."""
MAX_IN_ROW = 3
"""Chosen: one peer may be unlucky twice; three failures in a row are the channel's."""
MAX_REST_S = 3600.0
"""Chosen: who mends a firewall waits an hour at most, and no pair waits for a silence more often than that."""


class SetbackCause(StrEnum):
    """Why a channel was passed over."""

    MISFIT = "misfit"
    """By facts that the ends told, or because the other end does not offer it."""
    SILENT = "silent"
    """It did not open in its share of the time, though the other end answers."""
    BROKEN = "broken"
    """Its opening failed, or crashed."""
    FULL = "full"
    """All pairs that one of the ends may have open are in use."""
    RESTING = "resting"
    """Not tried: too many openings in a row have failed, with whomever."""


FAILURES = frozenset({SetbackCause.SILENT, SetbackCause.BROKEN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Setback:
    """`until_s`, on the worker's monotonic clock, is when the channel is worth a try again; None: never."""

    channel: str
    cause: SetbackCause
    why: str
    until_s: float | None = None
    num_in_row: int = 1


@dataclass(slots=True)
class _Peer:
    """What is known of one incarnation."""

    setbacks: dict[str, Setback] = field(default_factory=dict)
    reached: set[str] = field(default_factory=set)
    """Channels that did open: what happens to others is not held against them."""


@dataclass(slots=True)
class _Streak:
    """Openings of one channel that failed in a row."""

    num: int = 0
    rests_until_s: float = 0.0


class Setbacks:
    """Writer: the event loop. `now` is the worker's monotonic clock. Of incarnations the latest are kept."""

    def __init__(self, retry_s: float) -> None:
        """`retry_s` is the first rest; each further one in a row is twice as long."""
        self._retry_s = retry_s
        self._peers: OrderedDict[tuple[WorkerId, Epoch], _Peer] = OrderedDict()
        self._streaks: dict[str, _Streak] = {}

    def find(self, peer: WorkerRef, channel: str, now: float) -> Setback | None:
        """Why this channel is not worth a try with this incarnation now; None when it is."""
        known = self._peers.get((peer.worker, peer.epoch), _Peer())
        own = known.setbacks.get(channel)
        if own is not None and (own.until_s is None or now < own.until_s):
            return own
        streak = self._streaks.get(channel, _Streak())
        if channel in known.reached or now >= streak.rests_until_s:
            return None
        why = f"channel {channel} rests: its last {streak.num} openings failed"
        return Setback(channel=channel, cause=SetbackCause.RESTING, why=why, until_s=streak.rests_until_s)

    def begin(self, channel: str, now: float) -> None:
        """An opening begins. Where many failed before, no other does until this one's rest would be over."""
        streak = self._streaks.get(channel, _Streak())
        if streak.num >= MAX_IN_ROW:
            streak.rests_until_s = now + self._rest_s(streak.num - MAX_IN_ROW + 1)

    def note(self, peer: WorkerRef, channel: str, cause: SetbackCause, why: str, now: float) -> Setback:
        """Remember that this channel was passed over."""
        known = self._peer(peer)
        before = known.setbacks.get(channel)
        is_failure = cause in FAILURES
        num = 1 + (before.num_in_row if is_failure and before is not None and before.cause in FAILURES else 0)
        until_s = None if cause is SetbackCause.MISFIT else now + self._rest_s(num)
        setback = Setback(channel=channel, cause=cause, why=why, until_s=until_s, num_in_row=num)
        known.setbacks[channel] = setback
        if is_failure:
            streak = self._streaks.setdefault(channel, _Streak())
            streak.num += 1
            if streak.num >= MAX_IN_ROW:
                streak.rests_until_s = now + self._rest_s(streak.num - MAX_IN_ROW + 1)
        return setback

    def opened(self, peer: WorkerRef, channel: str) -> None:
        """It works, with this incarnation and at all."""
        known = self._peer(peer)
        known.setbacks.pop(channel, None)
        known.reached.add(channel)
        self._streaks.pop(channel, None)

    def _peer(self, peer: WorkerRef) -> _Peer:
        known = self._peers.setdefault((peer.worker, peer.epoch), _Peer())
        self._peers.move_to_end((peer.worker, peer.epoch))
        if len(self._peers) > MAX_REMEMBERED_PEERS:
            self._peers.popitem(last=False)
        return known

    def _rest_s(self, num_in_row: int) -> float:
        doublings = min(num_in_row - 1, 16)  # enough for the ceiling, and no overflow
        return min(self._retry_s * 2.0**doublings, MAX_REST_S)
