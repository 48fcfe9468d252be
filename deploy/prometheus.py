"""A Prometheus, asked over HTTP: what a dashboard's panel would ask it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

ASK_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of time, in seconds since 1970, and how far apart its samples are."""

    start: float
    end: float
    step: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One series: its labels and its samples that are numbers, by time."""

    labels: Mapping[str, str]
    times: Sequence[float]
    values: Sequence[float]


def fill_in(expression: str, *, namespace: str, release: str, interval: str) -> str:
    """A dashboard's query with its variables chosen, as Grafana does it."""
    chosen = {"$__rate_interval": interval, "$namespace": namespace, "$release": release}
    for name, value in chosen.items():
        expression = expression.replace(name, value)
    return expression


def range_query(address: str, expression: str, span: Span) -> tuple[Line, ...]:
    """Every series that the expression has in this time; NaN, which graphs leave out, is left out.

    `address` like http://127.0.0.1:9090. Raises OSError when it does not answer, or refuses.
    """
    asked = {"query": expression, "start": span.start, "end": span.end, "step": span.step}
    lines = []
    for series in ask(address, "query_range", asked)["result"]:
        samples = [(float(at), float(value)) for at, value in series["values"]]
        samples = [sample for sample in samples if math.isfinite(sample[1])]
        if samples:
            times, values = zip(*samples, strict=True)
            lines.append(Line(labels=series["metric"], times=times, values=values))
    return tuple(lines)


def ask(address: str, page: str, asked: Mapping[str, object] | None = None) -> Any:
    """The data of one answer of its API, parsed JSON."""
    assert address.startswith(("http://", "https://")), address
    with urlopen(f"{address}/api/v1/{page}?{urlencode(asked or {})}", timeout=ASK_S) as answer:  # noqa: S310 - above
        return json.load(answer)["data"]
