"""Strict checking of one value: bool is not int, NaN is not a number, borders hold. Raises ValueError with the why."""

import math
import re
from typing import TypeVar, assert_never

from common.config.schema import Key, Kind, Value

_NONE_WORDS = ("none", "")

N = TypeVar("N", int, float)


def parse_text(key: Key, text: str) -> Value:
    """The value that text from the environment or `--set` stands for."""
    if key.is_optional and text.lower() in _NONE_WORDS:
        return None
    match key.kind:
        case Kind.BOOLEAN:
            if text not in ("true", "false"):
                raise ValueError(f"expected {key.kind}, got {text!r}")
            return check(key, text == "true")
        case Kind.INTEGER:
            if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
                raise ValueError(f"expected {key.kind}, got {text!r}")
            return check(key, int(text))
        case Kind.NUMBER:
            try:
                number = float(text)
            except ValueError:
                raise ValueError(f"expected {key.kind}, got {text!r}") from None
            return check(key, number)
        case Kind.TEXT:
            return check(key, text)
        case _:
            assert_never(key.kind)


def check(key: Key, value: object) -> Value:
    """`value` if the knob may hold it. A whole number may stand for a number; nothing else is converted."""
    match key.kind:
        case Kind.BOOLEAN:
            if not isinstance(value, bool):
                raise _unexpected(key, value)
            return value
        case Kind.INTEGER:
            if isinstance(value, bool) or not isinstance(value, int):
                raise _unexpected(key, value)
            return _in_range(key, value)
        case Kind.NUMBER:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise _unexpected(key, value)
            return _in_range(key, float(value))
        case Kind.TEXT:
            if not isinstance(value, str):
                raise _unexpected(key, value)
            return _well_formed(key, value)
        case _:
            assert_never(key.kind)


def _unexpected(key: Key, value: object) -> ValueError:
    return ValueError(f"expected {key.kind}, got {type(value).__name__}")


def _in_range(key: Key, number: N) -> N:
    if not math.isfinite(number):
        raise ValueError(f"{number} is not a finite number")
    unit = f" ({key.knob.unit})" if key.knob.unit else ""
    if key.knob.minimum is not None and number < key.knob.minimum:
        raise ValueError(f"{number} is below the minimum {key.knob.minimum:g}{unit}")
    if key.knob.maximum is not None and number > key.knob.maximum:
        raise ValueError(f"{number} is above the maximum {key.knob.maximum:g}{unit}")
    return number


def _well_formed(key: Key, text: str) -> str:
    shown = "the value" if key.knob.is_secret else repr(text)
    if key.knob.choices and text not in key.knob.choices:
        raise ValueError(f"{shown} is not one of {', '.join(key.knob.choices)}")
    if key.knob.pattern and not re.fullmatch(key.knob.pattern, text):
        raise ValueError(f"{shown} does not match {key.knob.pattern}")
    if "\x00" in text or "\n" in text:
        raise ValueError("the value holds a line break or a NUL")
    return text
