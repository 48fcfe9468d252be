"""The configuration as rows for people: value, origin, unit, owner, reason. Secrets are masked."""

import re
from dataclasses import dataclass

from common.config.config import Config
from common.config.schema import KEYS, Key, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigRow:
    """One printed line."""

    key: str
    value: str
    origin: str
    unit: str
    owner: str
    reason: str


def describe(config: Config) -> tuple[ConfigRow, ...]:
    """Every key of every section, in order."""
    return tuple(
        ConfigRow(
            key=key.path,
            value=_shown(key, getattr(getattr(config, key.section), key.name)),
            origin=config.origin(key.path),
            unit=key.knob.unit,
            owner=key.knob.owner,
            reason=key.knob.reason,
        )
        for key in KEYS.values()
    )


def _shown(key: Key, value: Value) -> str:
    if key.knob.is_secret:
        return mask_url(str(value))
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:g}"
        case str():
            return value or '""'
        case _:
            return str(value)


def mask_url(url: str) -> str:
    """A URL without its credentials and query: only they can hold a secret."""
    without_query = url.partition("?")[0]
    return re.sub(r"(?<=://).*@", "***@", without_query)


def without_login(url: str) -> str:
    """A URL as anybody may see and use it: no credentials, no query."""
    return re.sub(r"(?<=://).*@", "", url.partition("?")[0])
