"""Frozen dataclasses to JSON values and back, driven by their annotations. Exact: a float survives bit for bit.

What equals its default is left out. Only these types: dataclasses, enums, strings, numbers, booleans, None, tuples of
one type, frozensets, and mappings with string-like keys. Nothing is ever executed on the way in.
"""

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Union, get_args, get_origin, get_type_hints

from common.core.errors import InvalidRequest

_SIMPLE = frozenset({bool, int, float, str, type(None)})

Plain = object
"""A value that JSON has."""


def to_plain(value: object) -> Plain:
    """Sets become sorted lists, so that equal values give equal text."""
    kind = type(value)
    if kind in _SIMPLE:
        return value
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(kind):
        plain = {}
        for name, default in _defaults(kind).items():
            part = getattr(value, name)
            if type(part) is not type(default) or part != default:
                plain[name] = to_plain(part)
        return plain
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


@cache
def _defaults(kind: type) -> Mapping[str, object]:
    """Every field of one of our dataclasses with its default, MISSING where it has none."""
    assert is_dataclass(kind)
    return {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields(kind)
    }


@cache
def _hints(kind: type) -> Mapping[str, object]:
    """The annotations of one of our dataclasses: a handful of types, so the cache stays small."""
    return get_type_hints(kind)
