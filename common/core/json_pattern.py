"""Patterns of a JSON schema, which are ECMAScript's: what other regular expressions read otherwise is refused.

Inside square brackets ECMAScript knows characters, ranges and escapes. Other engines nest classes there, intersect and
subtract them, and know names: an answer that fits here would not fit there.
"""

import re

_ESCAPED = re.compile(r"\\.", re.DOTALL)
_CLASS = re.compile(r"\[\^?(?P<content>\]?[^\]]*)")
_MEANS_MORE = re.compile(r"^\]|\[|&&|--|~~")


def check_pattern(pattern: str) -> None:
    """Raises ValueError."""
    plain = _ESCAPED.sub("..", pattern)
    for found in _CLASS.finditer(plain):
        if more := _MEANS_MORE.search(found["content"]):
            place = pattern[found.start() : found.end() + 1]
            raise ValueError(f"pattern: {more[0]} in {place} means different things to different readers: escape it")
