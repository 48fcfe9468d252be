"""A regular expression before it is compiled. The whole answer matches it: anchors at its ends say nothing new."""

from enum import Enum, auto

from common.text.grammar.depth import check_depth
from common.text.grammar.limits import MAX_REPEATS
from common.text.grammar.trouble import ConstraintTrouble


def read_regex(source: str) -> str:
    """The expression without anchors at its ends. Raises ConstraintTrouble."""
    if not source:
        raise ConstraintTrouble("is empty")
    if (len(source) - len(source.rstrip("\\"))) % 2:
        raise ConstraintTrouble("ends in the middle of an escape")
    check_depth(source, has_strings=False)
    _Scan(source).check()
    pattern = source.removeprefix("^").replace("\n", "\\n")
    return pattern[:-1] if pattern.endswith("$") and not pattern.endswith("\\$") else pattern


class _Before(Enum):
    """What stands before a place."""

    PART = auto()
    REPETITION = auto()
    ENDLESS_GROUP = auto()
    """A group whose only part is repeated without a bound."""


class _Scan:
    """Walks an expression once and refuses repetitions of repetitions, and repetitions without reason or end.

    `foo**` is a slip of the pen; `(a+)+` says no more than `a+` and is how other engines are brought to a halt.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._parts: list[int] = [0]
        """For each open group, how many parts it has so far; -1: one, and that is repeated without a bound."""

    def check(self) -> None:
        before = _Before.PART
        while self._at < len(self._source):
            count = self._repetition()
            if count is None:
                before = self._part()
                continue
            if before is _Before.REPETITION or (before is _Before.ENDLESS_GROUP and count == 0):
                raise ConstraintTrouble("repeats a repetition")
            if count > MAX_REPEATS:
                raise ConstraintTrouble(f"repeats {count} times, at most {MAX_REPEATS}")
            if self._parts[-1] == 1 and count == 0:
                self._parts[-1] = -1
            before = _Before.REPETITION

    def _repetition(self) -> int | None:
        """How often the part before is repeated, 0 without a bound, 1 for ?; None where no repetition stands here."""
        rest = self._source[self._at :]
        if rest[0] in "*+?":
            self._at += 1
            count = 1 if rest[0] == "?" else 0
        elif rest[0] == "{" and (end := rest.find("}")) > 0 and rest[1:end].replace(",", "").isdigit():
            self._at += end + 1
            numbers = [int(number[:9]) for number in rest[1:end].split(",") if number]
            count = 0 if rest[1:end].endswith(",") and max(numbers) <= MAX_REPEATS else max(2, *numbers)
        else:
            return None
        if self._source[self._at : self._at + 1] == "?":  # the shortest first: no repetition of its own
            self._at += 1
        return count

    def _part(self) -> "_Before":
        """Steps over one part that is no repetition."""
        character = self._source[self._at]
        if character == "(":
            self._at += 1
            self._parts.append(0)
            self._skip_group_kind()
            return _Before.PART
        if character == ")":
            self._at += 1
            inner = self._parts.pop() if len(self._parts) > 1 else 0
            self._count()
            return _Before.ENDLESS_GROUP if inner == -1 else _Before.PART
        if character == "|":
            self._at += 1
            self._parts[-1] = 2
            return _Before.PART
        self._at = self._class_end() if character == "[" else self._at + (2 if character == "\\" else 1)
        self._count()
        return _Before.PART

    def _count(self) -> None:
        self._parts[-1] = 2 if self._parts[-1] == -1 else self._parts[-1] + 1

    def _skip_group_kind(self) -> None:
        """`?:`, `?<name>`, `?i:` and the like; the engine refuses those it does not know."""
        rest = self._source[self._at :]
        if not rest.startswith("?"):
            return
        ends = [place for place in (rest.find(":"), rest.find(">"), rest.find(")")) if place >= 0]
        place = min(ends, default=0)
        if rest[place : place + 1] == ")":
            self._at += place
        else:
            self._at += place + 1

    def _class_end(self) -> int:
        at = self._at + 1
        if self._source[at : at + 1] == "^":
            at += 1
        if self._source[at : at + 1] == "]":
            at += 1
        while at < len(self._source) and self._source[at] != "]":
            at += 2 if self._source[at] == "\\" else 1
        return at + 1
