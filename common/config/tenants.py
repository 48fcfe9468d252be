"""Tenants by name, as one line of text: `gold: weight=4; trial: requests_per_s=2, tokens_per_s=500, streams=4`."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from common.core.ids import TenantId

MAX_NAMED = 10_000
"""Chosen: more tenants than this come from a service that issues credentials, not from a line of text."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantTerms:
    """What a tenant may use, on all routers together. None: as much as there is. `weight`: its share among others."""

    weight: float = 1.0
    requests_per_s: float | None = None
    tokens_per_s: float | None = None
    max_streams: int | None = None

    @property
    def is_limited(self) -> bool:
        return not (self.requests_per_s is None and self.tokens_per_s is None and self.max_streams is None)


def parse_tenants(text: str, default: TenantTerms) -> Mapping[TenantId, TenantTerms]:
    """Terms that are not named are those of `default`. Raises ValueError that says which entry cannot be read."""
    found: dict[TenantId, TenantTerms] = {}
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        name, _, terms = (part.strip() for part in entry.partition(":"))
        if not _NAME.fullmatch(name):
            raise ValueError(f"{entry!r} does not begin with a tenant's name")
        if name in found:
            raise ValueError(f"tenant {name} is there twice")
        found[TenantId(name)] = _terms(name, terms, default)
    if len(found) > MAX_NAMED:
        raise ValueError(f"{len(found)} tenants, at most {MAX_NAMED} can be named")
    return found


def limit_or_none(value: float) -> float | None:
    """Knobs spell "no limit" as 0."""
    return value or None


def _terms(name: str, text: str, default: TenantTerms) -> TenantTerms:
    values = {
        "weight": default.weight,
        "requests_per_s": default.requests_per_s,
        "tokens_per_s": default.tokens_per_s,
        "streams": default.max_streams,
    }
    for term in filter(None, (part.strip() for part in text.split(","))):
        key, _, number = (part.strip() for part in term.partition("="))
        if key not in values:
            raise ValueError(f"tenant {name}: {key!r} is not one of {', '.join(values)}")
        values[key] = _number(name, key, number)
    streams = values["streams"]
    return TenantTerms(
        weight=values["weight"] or default.weight,
        requests_per_s=values["requests_per_s"],
        tokens_per_s=values["tokens_per_s"],
        max_streams=None if streams is None else int(streams),
    )


def _number(name: str, key: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"tenant {name}: {key}={text} is not a number") from None
    if not (0 < number < math.inf):
        raise ValueError(f"tenant {name}: {key}={text} is not above 0")
    return number
