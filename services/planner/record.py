"""A look as it is logged: a line of JSON. What it was decided under, and from which state, stands once, before it."""

import json
from dataclasses import dataclass

from common.core.errors import InvalidRequest
from common.core.plain import from_plain, to_plain
from services.planner.decide import Recommendation, State, Verdict
from services.planner.load import Signals
from services.planner.settings import PlannerSettings

DECIDER = "4"
"""Grows when the same signals may give another answer: what an older one decided is then told apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """First line of every file: who decides, how, and what it remembered before the first look in it."""

    planner: str
    settings: PlannerSettings
    state: State
    decider: str = DECIDER


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Signals and answer. `wall`: seconds since the epoch."""

    wall: float
    signals: Signals
    prefill: Verdict | None
    decode: Verdict | None

    @classmethod
    def of(cls, wall: float, signals: Signals, answer: Recommendation) -> "Look":
        return cls(wall=wall, signals=signals, prefill=answer.prefill, decode=answer.decode)


def write_line(value: Look | Beginning) -> str:
    """One line, with its line break."""
    told = to_plain(value)
    assert isinstance(told, dict)
    return json.dumps({**told, "_": _NAMES[type(value)]}, separators=(",", ":")) + "\n"


def read_line(line: str) -> Look | Beginning:
    """Raises InvalidRequest for a line that is none of ours."""
    try:
        plain = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(message=f"not a line of a planner's log: {error}") from error
    kind = _KINDS.get(plain.pop("_", "")) if isinstance(plain, dict) else None
    if kind is None:
        raise InvalidRequest(message="not a line of a planner's log")
    value = from_plain(kind, plain)
    assert isinstance(value, Look | Beginning)
    return value


_NAMES: dict[type, str] = {Beginning: "planner", Look: "look"}
_KINDS = {name: kind for kind, name in _NAMES.items()}
