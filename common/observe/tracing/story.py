"""A span as its tracer sees it: while it is under way, and once it is over."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.observe.lifetime import Mark
from common.observe.tracing.context import TraceContext

Attributes = Mapping[str, str | int | float | bool | Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """One span that is under way: its own context, and whose child it is."""

    own: TraceContext
    parent: TraceContext | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What a span tells once it is over. Times in seconds on the monotonic clock; `error`: empty when all went well."""

    name: str
    where: str
    start: float
    end: float
    attributes: Attributes
    marks: tuple[Mark, ...] = ()
    error: str = ""
