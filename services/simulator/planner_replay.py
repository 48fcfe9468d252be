"""A planner's log played again: the same signals, from the same state, must be answered alike, bit for bit."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from common.core.errors import InvalidRequest
from common.observe.rotation import read_halves
from services.planner.decide import State, Verdict, decide
from services.planner.record import DECIDER, Beginning, Look, read_line

MAX_SHOWN = 1000
"""Differences that are kept; all are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Otherwise:
    """A look that came out otherwise: (prefill, decode) as logged, and now."""

    look: Look
    was: tuple[int | None, int | None]
    now: tuple[int | None, int | None]


@dataclass(slots=True, kw_only=True)
class Reviewed:
    """What a replay found."""

    num_looks: int = 0
    num_same: int = 0
    num_other_version: int = 0
    differences: list[Otherwise] = field(default_factory=list)


def is_planner_log(file: Path) -> bool:
    """Whether its first line is a planner's. A file that cannot be read is not: who reads it says so."""
    try:
        with file.open(encoding="utf-8") as lines:
            return isinstance(read_line(lines.readline()), Beginning)
    except (OSError, UnicodeDecodeError, InvalidRequest):
        return False


def read_looks(file: Path) -> Iterator[Look | Beginning]:
    """The older half first, if there is one. Raises InvalidRequest with the line's number."""
    return read_halves(file, read_line)


def review(lines: Iterable[Look | Beginning]) -> Reviewed:
    """Decides every look again. Each file goes on from the state that it begins with."""
    found, beginning, state = Reviewed(), None, State()
    for line in lines:
        if isinstance(line, Beginning):
            beginning, state = line, line.state
            continue
        if beginning is None:
            raise InvalidRequest(message="a planner's log begins with what it remembered; this one does not")
        answer = decide(line.signals, state, beginning.settings)
        state = answer.state
        found.num_looks += 1
        found.num_other_version += beginning.decider != DECIDER
        if (answer.prefill, answer.decode) == (line.prefill, line.decode):
            found.num_same += 1
        elif len(found.differences) < MAX_SHOWN:
            now = _desired(answer.prefill), _desired(answer.decode)
            found.differences.append(Otherwise(look=line, was=(_desired(line.prefill), _desired(line.decode)), now=now))
    return found


def _desired(verdict: Verdict | None) -> int | None:
    return None if verdict is None else verdict.desired
