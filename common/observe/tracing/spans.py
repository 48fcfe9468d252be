"""Which spans a request's stations amount to. Pure.

    request                      received ......................................................... finished
      queue                        queued .. admitted                                     (once per attempt)
      place                                  admitted .. reserved
      prefill                                            prefill_started .. last chunk computed
      transfer                                               first chunk computed .. verified
      decode                                                                    running ........... finished

Attempts are told apart by `retried`; a span whose end is missing lasts until its attempt ended. Stations are events of
the span that they lie in, with their numbers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from common.observe.lifetime import Mark, Station


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One stretch of time at one place. Seconds on the recorder's monotonic clock. `where` names the process."""

    name: str
    where: str
    start: float
    end: float
    attempt: int = 1
    events: tuple[Mark, ...] = ()
    attributes: dict[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Stretch:
    """From the first of one kind of station to the first, or last, of another."""

    name: str
    start: Station
    ends: tuple[Station, ...]
    is_until_last: bool = False
    is_at_end: bool = False
    """Its place is where it ended: a transfer belongs to who verified it."""


_STRETCHES = (
    _Stretch("queue", Station.QUEUED, (Station.ADMITTED,)),
    _Stretch("place", Station.ADMITTED, (Station.RESERVED, Station.PREFILL_QUEUED, Station.PREFILL_STARTED)),
    _Stretch("prefill", Station.PREFILL_STARTED, (Station.CHUNK_COMPUTED,), is_until_last=True),
    _Stretch("transfer", Station.CHUNK_COMPUTED, (Station.VERIFIED,), is_at_end=True),
    _Stretch("decode", Station.RUNNING, (Station.FINISHED, Station.RETRIED)),
)
_ONLY_REMOTE = frozenset({"transfer"})


def spans_of(marks: Sequence[Mark]) -> tuple[Span, ...]:
    """The parts of a request, without the request itself, by attempt and in order of their beginning."""
    found: list[Span] = []
    for attempt, part in enumerate(_attempts(marks), start=1):
        found += _spans(part, attempt)
    return tuple(sorted(found, key=lambda span: span.start))


def _attempts(marks: Sequence[Mark]) -> Iterator[Sequence[Mark]]:
    """Marks in order of time, cut after each `retried`."""
    part: list[Mark] = []
    for mark in sorted(marks, key=lambda mark: mark.at):
        part.append(mark)
        if mark.station == Station.RETRIED:
            yield part
            part = []
    if part:
        yield part


def _spans(marks: Sequence[Mark], attempt: int) -> Iterator[Span]:
    over = marks[-1].at
    for stretch in _STRETCHES:
        first = next((mark for mark in marks if mark.station == stretch.start), None)
        if first is None:
            continue
        ends = [mark for mark in marks if mark.station in stretch.ends and mark.at >= first.at]
        if not ends and stretch.name in _ONLY_REMOTE:
            continue
        last = (ends[-1] if stretch.is_until_last else ends[0]) if ends else None
        end = over if last is None else last.at
        where = last.where if last is not None and stretch.is_at_end else first.where
        yield Span(
            name=stretch.name,
            where=where,
            start=first.at,
            end=end,
            attempt=attempt,
            events=tuple(mark for mark in marks if first.at < mark.at < end and mark.where == where),
            attributes={"baton.attempt": attempt},
        )
