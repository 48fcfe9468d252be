"""The base of every request body, and how its violations are told."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.core.errors import FieldViolation, InvalidRequest

Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
"""A number of things, within what the wire holds."""

Id = Annotated[int, Field(ge=0, le=2**32 - 1)]
"""A token id, within what the wire holds; the router knows the vocabulary."""

MAX_VIOLATIONS = 32
"""Chosen: enough to mend a request in one go, too few to be an answer of a megabyte."""

MAX_COUNTED = 1000
"""Chosen: telling a violation apart takes ten microseconds, and a body of 2 MiB can hold a million."""

_ARM = re.compile(r"[a-z]+\[.*|(str|int|float|bool|dict|list|none)$")
"""A part of pydantic's location that names an arm of a union, not a field."""

_NAMED = re.compile(r"`([a-z_.]+)`: ")
"""How a check of several fields begins its sentence: with the one to change."""

B = TypeVar("B", bound="Body")


class Body(BaseModel):
    """Strict: a boolean is no number, a string is no number, NaN is nothing. Unknown fields are kept aside."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow", allow_inf_nan=False)

    @classmethod
    def read(cls, raw: bytes) -> Self:
        """Raises InvalidRequest with every violation."""
        try:
            return cls.model_validate_json(raw)
        except ValidationError as error:
            if (count := error.error_count()) > MAX_COUNTED:
                raise invalid([violation("body", f"{count} violations, too many to tell")]) from None
            told = error.errors(include_url=False, include_context=False, include_input=False)
            raise invalid(tuple(_violations(told))) from None  # it holds the whole body

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of fields that this server does not know, those of objects inside with their path. Lists are left out:
        clients send messages back with whatever their library put into them.
        """
        names = list(self.model_extra or ())
        for name, value in self:
            if isinstance(value, Body):
                names += [f"{name}.{inner}" for inner in value.unknown]
        return tuple(sorted(names))


def invalid(violations: Sequence[FieldViolation]) -> InvalidRequest:
    """One error for all of them."""
    shown = "; ".join(f"{violation.field}: {violation.description}" for violation in violations[:3])
    more = f"; and {len(violations) - 3} more" if len(violations) > 3 else ""
    return InvalidRequest(message=f"{shown}{more}", violations=tuple(violations))


def violation(field: str, description: str) -> FieldViolation:
    return FieldViolation(field=field, description=description)


def _violations(errors: Sequence[Mapping[str, Any]]) -> Iterator[FieldViolation]:
    seen: set[str] = set()
    for error in errors[:MAX_VIOLATIONS]:
        field, told = _path(error["loc"]), _sentence(str(error["msg"]))
        if (named := _NAMED.match(told)) is not None:  # of several fields together, which pydantic cannot place
            field, told = (f"{field}.{named[1]}" if field else named[1]), told[named.end() :]
        field = field or "body"
        if field not in seen:
            seen.add(field)
            yield FieldViolation(field=field, description=told)


def _path(location: Sequence[str | int]) -> str:
    """`messages[3].content`; empty for the document itself."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not _ARM.match(part):
            path += f".{part}" if path else part
    return path[:200]


def _sentence(message: str) -> str:
    return message.removeprefix("Value error, ").removeprefix("Assertion failed, ")[:300]
