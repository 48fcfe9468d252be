"""One decision as it is logged: a line of JSON. The settings that it was made under stand once, before it."""

import json
from dataclasses import dataclass
from enum import StrEnum

from common.core.errors import InvalidRequest
from common.core.ids import RequestId, WorkerRef
from common.core.plain import from_plain, to_plain
from services.router.classify import Facts
from services.router.policy import POLICY_VERSION, Decision, PolicySettings, Route
from services.router.view import FleetView


class Question(StrEnum):
    """What was asked: for a whole route, for another reader of a promise that stands, for another writer of an answer
    whose worker drains."""

    ROUTE = "route"
    READER = "reader"
    WRITER = "writer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Inputs and answer. `at`: seconds since the epoch. `decision`, `reader` or `writer`, by what was asked, is None
    where nobody could take it."""

    request: RequestId
    attempt: int
    at: float
    question: Question
    facts: Facts
    view: FleetView
    decision: Decision | None = None
    reader: WorkerRef | None = None
    writer: WorkerRef | None = None

    @property
    def answer(self) -> str:
        """What was chosen, in short."""
        if self.question is not Question.ROUTE:
            found = self.reader or self.writer
            return "nobody" if found is None else found.worker
        return "wait" if self.decision is None else str(self.decision.route)

    @property
    def route(self) -> Route | None:
        return None if self.decision is None else self.decision.route


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """First line of every file: who decides, and how."""

    router: str
    settings: PolicySettings
    policy: str = POLICY_VERSION


def write_line(value: Entry | Header) -> str:
    """One line, with its line break."""
    name = "header" if isinstance(value, Header) else "entry"
    plain = {**_told(value), "_": name}
    return json.dumps(plain, separators=(",", ":")) + "\n"


def read_line(line: str) -> Entry | Header:
    """Raises InvalidRequest for a line that is none of ours."""
    try:
        plain = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(message=f"not a line of a decision log: {error}") from error
    if not isinstance(plain, dict):
        raise InvalidRequest(message="not a line of a decision log: no object")
    kind = Header if plain.pop("_", "") == "header" else Entry
    value = from_plain(kind, plain)
    assert isinstance(value, Entry | Header)
    return value


def _told(value: Entry | Header) -> dict[str, object]:
    """The policy's version is always written, default or not."""
    plain = to_plain(value)
    assert isinstance(plain, dict)
    return {**plain, "policy": value.policy} if isinstance(value, Header) else plain
