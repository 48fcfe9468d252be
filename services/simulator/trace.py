"""A recorded workload: who asked when for how much, and which prompts begin alike."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from math import floor
from pathlib import Path

from common.core.errors import FieldViolation, InvalidRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRequest:
    """One request. `pages` names the full pages of its prompt: equal names mean equal prefixes. Times from 0."""

    arrived_s: float
    prompt_tokens: int
    output_tokens: int
    pages: tuple[int, ...]


def told_name(name: int) -> int:
    """Of a block that a trace names. A third of the numbers below 0 is left to these, one to the next, one to the last:
    what is nobody else's is found by nobody else."""
    return min(name, 3 * name)


def names_of_nobody() -> Iterator[int]:
    """For blocks that a trace does not name."""
    return count(-1, -3)


def answer_name(number: int) -> int:
    """For the pages of answers, numbered from 0."""
    return -3 * number - 2


MAX_SPAN_S = 400 * 86_400.0
"""Chosen: over a year of requests. Longer ones come from timestamps in another unit than their format's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Requests by arrival. A page has `page_size` tokens."""

    name: str
    page_size: int
    requests: tuple[TraceRequest, ...]

    @property
    def span_s(self) -> float:
        """From the first arrival to the last."""
        return self.requests[-1].arrived_s - self.requests[0].arrived_s if self.requests else 0.0

    @property
    def prompt_tokens(self) -> int:
        return sum(request.prompt_tokens for request in self.requests)

    def from_zero(self) -> "Trace":
        """Moved by whole seconds, to begin in the first one. Raises InvalidRequest for a trace of over a year."""
        if self.span_s > MAX_SPAN_S:
            days, most = self.span_s / 86_400, MAX_SPAN_S / 86_400
            why = f"it spans {days:.0f} days, at most {most:.0f}: its times have another unit"
            raise unreadable(Path(self.name), 0, why)
        early = floor(self.requests[0].arrived_s)
        moved = (replace(each, arrived_s=each.arrived_s - early) for each in self.requests)
        return replace(self, requests=tuple(moved)) if early else self


def in_order(name: str, page_size: int, requests: Iterable[TraceRequest]) -> Trace:
    """Sorted by arrival. Raises InvalidRequest where there is none."""
    ordered = sorted(requests, key=lambda request: request.arrived_s)
    if not ordered:
        raise unreadable(Path(name), 0, "it holds no request")
    return Trace(name=name, page_size=page_size, requests=tuple(ordered))


def unreadable(path: Path, line: int, why: str) -> InvalidRequest:
    """The one error of a reader, with the line to look at."""
    message = f"{path}, line {line}: {why}" if line else f"{path}: {why}"
    return InvalidRequest(message=message, violations=(FieldViolation(field="trace", description=message),))
