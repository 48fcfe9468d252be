"""The life of a request as named stations: when, where, with which numbers.

received -> queued -> admitted -> routed -> reserved -> prefill_queued -> prefill_started -> chunk_computed* ->
chunk_shipped* -> first_token -> chunk_landed* -> verified -> running -> finished
(* once per chunk; a retry passes routed ... running again; a local route has no shipped, landed, verified)
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain

from common.core.clock import Clock
from common.core.ids import RequestId


class Station(StrEnum):
    """A named moment. Names are wire format: dashboards and waterfalls know them."""

    RECEIVED = "received"
    QUEUED = "queued"
    ADMITTED = "admitted"
    ROUTED = "routed"
    RESERVED = "reserved"
    PREFILL_QUEUED = "prefill_queued"
    PREFILL_STARTED = "prefill_started"
    CHUNK_COMPUTED = "chunk_computed"
    CHUNK_SHIPPED = "chunk_shipped"
    CHUNK_LANDED = "chunk_landed"
    FIRST_TOKEN = "first_token"  # noqa: S105 - a name, not a password
    VERIFIED = "verified"
    RUNNING = "running"
    PREEMPTED = "preempted"
    MOVED = "moved"
    RETRIED = "retried"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One station reached. `at` in seconds on the recorder's monotonic clock; facts are numbers only, never text."""

    station: str
    at: float
    where: str
    facts: Mapping[str, float] = field(default_factory=dict)


class Lifetime:
    """The marks of one request. Writer: the task that serves it.

    Keeps the first half of `max_marks` and the newest of the rest: a long request keeps its beginning and its end.
    """

    def __init__(self, request: RequestId, *, clock: Clock, where: str, max_marks: int = 96) -> None:
        self.request = request
        self.dropped = 0
        self._clock = clock
        self._where = where
        self._head: list[Mark] = []
        self._max_head = max_marks // 2
        self._tail: deque[Mark] = deque(maxlen=max_marks - self._max_head)

    def mark(self, station: Station, **facts: float) -> Mark:
        """A station reached here and now."""
        mark = Mark(station=station, at=self._clock.monotonic(), where=self._where, facts=facts)
        self.take(mark)
        return mark

    def take(self, mark: Mark) -> None:
        """A station reached elsewhere, its time already on this clock."""
        if len(self._head) < self._max_head:
            self._head.append(mark)
            return
        if len(self._tail) == self._tail.maxlen:
            self.dropped += 1
        self._tail.append(mark)

    @property
    def marks(self) -> tuple[Mark, ...]:
        """In order of time; marks from other processes arrive late."""
        return tuple(sorted((*self._head, *self._tail), key=lambda mark: mark.at))

    def first(self, station: Station) -> float | None:
        """When the station was first reached."""
        return min((mark.at for mark in chain(self._head, self._tail) if mark.station == station), default=None)

    def seconds(self, start: Station, end: Station) -> float | None:
        """From the first `start` to the first `end`; None when one is missing, 0 when clocks cross by a hair."""
        began, ended = self.first(start), self.first(end)
        return None if began is None or ended is None else max(0.0, ended - began)
