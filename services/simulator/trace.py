"""A recorded workload: who asked when for how much, and which prompts begin alike."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from common.core.errors import FieldViolation, InvalidRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRequest:
    """One request. `pages` names the full pages of its prompt: equal names mean equal prefixes. Times from 0."""

    arrived_s: float
    prompt_tokens: int
    output_tokens: int
    pages: tuple[int, ...]


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


def in_order(name: str, page_size: int, requests: Iterable[TraceRequest]) -> Trace:
    """A trace whose first request arrives at 0."""
    ordered = sorted(requests, key=lambda request: request.arrived_s)
    if not ordered:
        raise unreadable(Path(name), 0, "it holds no request")
    return Trace(name=name, page_size=page_size, requests=tuple(ordered))


def unreadable(path: Path, line: int, why: str) -> InvalidRequest:
    """The one error of a reader, with the line to look at."""
    message = f"{path}, line {line}: {why}"
    return InvalidRequest(message=message, violations=(FieldViolation(field="trace", description=message),))
