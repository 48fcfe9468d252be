"""What a template may make of its values: each is weighed before it is written out, or multiplied.

A loop of thirty steps that doubles a text takes all memory, and nobody who drives the template hears of it before its
next word. Pure.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import wraps
from typing import Any, TypeVar

from jinja2.exceptions import SecurityError

MAX_CHARS = 8 << 20
"""Chosen: as much as a template may write in all."""

ELEMENT_CHARS = 8
"""Chosen: of a list's or a mapping's, besides its text; as many as may be are looked at in a fifth of a second."""

MAX_REPEATED_CHARS = 256
"""Chosen: a line under a title."""

MAX_BITS = 1024
"""Chosen: of a number that is multiplied, or raised; nobody counts so far."""

T = TypeVar("T")


def weigh(value: T) -> T:
    """Itself. Raises SecurityError where, written out, it would be too long: a list in itself counts as often as it
    stands there."""
    _check(_weight(value))
    return value


def weigh_lines(value: object, width: int) -> None:
    """Raises SecurityError where its elements, each on a line of its own and `width` characters further in than what
    it stands in, would be too long. For a value that was weighed: its elements are few enough to be looked at."""
    found, depth, level = 0, 0, [value]
    while level and found <= MAX_CHARS:
        depth += 1
        level = [child for each in level for child in _children(each)]
        found += len(level) * depth * width
    _check(found)


def weighing(make: Callable[..., Any]) -> Callable[..., Any]:
    """What makes a text of values: they are weighed before, and the text behind. Keeps the marks that jinja left."""

    @wraps(make)
    def made(*args: Any, **named: Any) -> Any:
        for value in (*args, *named.values()):
            weigh(value)
        return weigh(make(*args, **named))

    return made


def joined(separator: str, parts: Iterable[object]) -> str:
    """All of them as texts. Raises SecurityError for too long a one, before it is made."""
    texts: list[str] = []
    num_chars = 0
    for part in parts:
        texts.append(str(weigh(part)))
        num_chars += len(texts[-1]) + len(separator)
        _check(num_chars)
    return separator.join(texts)


def replaced(text: str, old: str, new: str, count: int = -1) -> str:
    """As str.replace. Raises SecurityError for too long a text, before it is made."""
    num_found = text.count(old)
    num_found = num_found if count < 0 else min(count, num_found)
    _check(len(text) + num_found * (len(new) - len(old)))
    return text.replace(old, new, count)


def is_small_product(left: Any, right: Any) -> bool:
    """Whether it may be computed: of numbers, or a short text."""
    if isinstance(left, str):
        return isinstance(right, int) and len(left) * right <= MAX_REPEATED_CHARS
    return _is_small(left) and _is_small(right)


def is_small_power(left: Any, right: Any) -> bool:
    """Of whole numbers only."""
    return isinstance(left, int) and isinstance(right, int) and left.bit_length() * abs(right) <= MAX_BITS


def _is_small(number: object) -> bool:
    return isinstance(number, float) or (isinstance(number, int) and number.bit_length() <= MAX_BITS)


def _check(num_chars: int) -> None:
    if num_chars > MAX_CHARS:
        raise SecurityError(f"a value of {num_chars} characters")


def _weight(value: object) -> int:
    """In characters; looks no further once they are too many."""
    if isinstance(value, str):
        return len(value)
    found, left = 0, [value]
    while left and found <= MAX_CHARS:
        each = left.pop()
        found += len(each) if isinstance(each, str) else ELEMENT_CHARS
        left += each.keys() if isinstance(each, Mapping) else ()
        left += _children(each)
    return found


def _children(value: object) -> Collection[object]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple | set | frozenset) else ()
