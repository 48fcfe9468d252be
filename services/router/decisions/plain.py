"""Frozen dataclasses to JSON values and back, driven by their annotations. Exact: a float survives bit for bit.

What equals its default is left out. Only these types: dataclasses, enums, strings, numbers, booleans, None, tuples of
one type, frozensets, and mappings with string-like keys. Nothing is ever executed on the way in.
"""

import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Union, get_args, get_origin, get_type_hints

from common.core.errors import InvalidRequest

Plain = object
"""A value that JSON has."""


def to_plain(value: object) -> Plain:
    """Sets become sorted lists, so that equal values give equal text."""
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_plain(part)
            for field in fields(value)
            if not _is_default(field, part := getattr(value, field.name))
        }
    if isinstance(value, Mapping):
        return {str(to_plain(key)): to_plain(part) for key, part in value.items()}
    if isinstance(value, frozenset):
        return sorted((to_plain(part) for part in value), key=repr)
    assert isinstance(value, tuple), f"{type(value).__name__} is not among the types of a decision"
    return [to_plain(part) for part in value]


def from_plain(kind: object, plain: Plain) -> object:
    """A value of type `kind`. Raises InvalidRequest for anything that is not one."""
    kind = getattr(kind, "__supertype__", kind)
    try:
        return _restore(kind, plain)
    except (TypeError, ValueError, KeyError, AttributeError, AssertionError) as error:
        raise InvalidRequest(message=f"not a {getattr(kind, '__name__', kind)}: {error}") from error


def _restore(kind: object, plain: Plain) -> object:
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if plain is None else from_plain(next(each for each in args if each is not type(None)), plain)
    if origin in (tuple, frozenset):
        assert isinstance(plain, list), "a list was expected"
        return origin(from_plain(args[0], part) for part in plain)
    if origin is not None:
        assert isinstance(plain, dict), "an object was expected"
        return {from_plain(args[0], key): from_plain(args[1], part) for key, part in plain.items()}
    assert isinstance(kind, type), f"{kind} is not among the types of a decision"
    if is_dataclass(kind):
        assert isinstance(plain, dict), "an object was expected"
        hints = _hints(kind)
        return kind(**{name: from_plain(hints[name], part) for name, part in plain.items()})
    if issubclass(kind, Enum):
        return kind(plain)
    if kind is float and isinstance(plain, int) and not isinstance(plain, bool):
        return float(plain)
    if type(plain) is not kind:
        raise ValueError(f"{plain!r} is no {kind.__name__}")
    return plain


def _is_default(field: "Field[object]", value: object) -> bool:
    if field.default_factory is not MISSING:
        return bool(value == field.default_factory())
    return field.default is not MISSING and type(value) is type(field.default) and value == field.default


@cache
def _hints(kind: type) -> Mapping[str, object]:
    """The annotations of one of our dataclasses: a handful of types, so the cache stays small."""
    return get_type_hints(kind)
