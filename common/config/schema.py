"""What keys there are, derived from the sections: one Key per knob."""

import types
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Union, cast, get_args, get_origin, get_type_hints

from common.config.config import Config
from common.config.knob import Knob, knob_of

Value = bool | int | float | str | None
"""What a knob can hold."""


class Kind(StrEnum):
    """The type of a value, named as in a message to the operator."""

    BOOLEAN = "true or false"
    INTEGER = "a whole number"
    NUMBER = "a number"
    TEXT = "text"


_KINDS: Mapping[type, Kind] = {bool: Kind.BOOLEAN, int: Kind.INTEGER, float: Kind.NUMBER, str: Kind.TEXT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One knob with its place and type."""

    section: str
    name: str
    kind: Kind
    is_optional: bool
    default: Value
    knob: Knob

    @property
    def path(self) -> str:
        return f"{self.section}.{self.name}"


def _kind(annotation: object) -> tuple[Kind, bool]:
    """Kind, and whether None is a value."""
    if get_origin(annotation) in (Union, types.UnionType):
        present = [arm for arm in get_args(annotation) if arm is not type(None)]
        assert len(present) == 1, f"a knob is one type or none: {annotation}"
        return _KINDS[present[0]], True
    assert isinstance(annotation, type)
    return _KINDS[annotation], False


def _section_keys(section: str, section_type: type) -> list[Key]:
    hints = get_type_hints(section_type)
    keys = []
    for each in fields(section_type):
        kind, is_optional = _kind(hints[each.name])
        keys.append(
            Key(
                section=section,
                name=each.name,
                kind=kind,
                is_optional=is_optional,
                default=cast(Value, each.default),
                knob=knob_of(each),
            )
        )
    return keys


SECTIONS: Mapping[str, type] = MappingProxyType(
    {name: cast(type, hint) for name, hint in get_type_hints(Config).items() if name != "origins"}
)
"""Section name to its dataclass, in the order of Config."""

KEYS: Mapping[str, Key] = MappingProxyType(
    {key.path: key for name, section_type in SECTIONS.items() for key in _section_keys(name, section_type)}
)
"""Every key by its path."""
