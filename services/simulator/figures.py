"""The numbers of a trace's line, checked: what a file says need not be a number, nor one anybody could ask for.

Every function raises ValueError with words that follow "file, line N:".
"""

import math

MAX_TOKENS = 10_000_000
"""Chosen: several times the longest context of any model. A slip of the pen should not fill the memory."""


def tokens(value: object, name: str, *, least: int) -> int:
    """A count of tokens: a whole number, or digits; `472.0` is how tables with gaps spell them."""
    if isinstance(value, str):
        text = value.strip().removesuffix(".0")
        counted = int(text) if text.isdecimal() and text.isascii() and len(text) <= len(str(MAX_TOKENS)) else None
    elif isinstance(value, float):
        counted = int(value) if value.is_integer() else None
    else:
        counted = value if isinstance(value, int) and not isinstance(value, bool) else None
    if counted is None or not least <= counted <= MAX_TOKENS:
        raise ValueError(f"{name} is {_shown(value)}, a whole number from {least} to {MAX_TOKENS} is needed")
    return counted


def moment(value: object, name: str) -> float:
    """A time as a finite number, in the unit of its format."""
    try:
        read = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        read = math.nan
    if not math.isfinite(read):
        raise ValueError(f"{name} is {_shown(value)}, a number is needed")
    return read


def _shown(value: object) -> str:
    if value is None:
        return "missing"
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:40]}..."
