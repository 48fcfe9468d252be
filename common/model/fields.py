"""Typed reading of a JSON object that a stranger wrote: every value is checked, every error names its key."""

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from common.model.folder import load_failed

MAX_SIZE = 2**31 - 1
MAX_COUNT = 1024
"""Chosen: twice the layers or experts of the largest open models. Tensors of each are looked for by name."""
Value = TypeVar("Value", int, float, bool, str)


class Fields:
    """Keys of one JSON object. A key that is absent or null takes the default; without one it is an error.

    Remembers which keys were asked for, so that one that nobody asked for can be refused.
    """

    def __init__(self, content: Mapping[str, object], name: str) -> None:
        self._content = content
        self._name = name
        self._asked: set[str] = set()
        self._inner: list[Fields] = []

    def with_defaults(self, defaults: Mapping[str, object]) -> "Fields":
        """The same object with values for keys that are absent. A key that is there and null stays null."""
        fields = Fields({**defaults, **self._content}, self._name)
        fields._asked, fields._inner = self._asked, self._inner
        return fields

    def __contains__(self, key: str) -> bool:
        return self._look(key) is not None

    def size(self, key: str, default: int | None = None) -> int:
        """A whole number of at least 1, within what any tensor has."""
        value = self._get(key, int, default)
        if not 1 <= value <= MAX_SIZE:
            raise self.wrong(key, f"is {value}; 1 to {MAX_SIZE} is possible")
        return value

    def count(self, key: str, default: int | None = None) -> int:
        """How many there are of something that has tensors of its own."""
        value = self.size(key, default)
        if value > MAX_COUNT:
            raise self.wrong(key, f"is {value}; 1 to {MAX_COUNT} is possible")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A positive finite number, written with or without a fraction."""
        is_whole = type(self._look(key)) is int
        value = float(self._get(key, int, None)) if is_whole else self._get(key, float, default)
        if not 0 < value < float("inf"):
            raise self.wrong(key, f"is {value}; a positive number is needed")
        return value

    def optional_size(self, key: str) -> int | None:
        """A whole number of at least 1, or None when it is absent or null."""
        return self.size(key) if key in self else None

    def optional_number(self, key: str, at_most: float = float("inf")) -> float | None:
        """A positive finite number, or None when it is absent or null."""
        value = self.number(key) if key in self else None
        if value is not None and value > at_most:
            raise self.wrong(key, f"is {value:g}; at most {at_most:g} is possible")
        return value

    def is_zero(self, key: str) -> bool:
        """Whether a 0 stands there, with or without a fraction."""
        value = self._look(key)
        return type(value) in (int, float) and value == 0

    def numbers(self, key: str) -> tuple[float, ...]:
        """A list of positive finite numbers."""
        values = self._list(key)
        if not all(type(value) in (int, float) and 0 < value < float("inf") for value in values):
            raise self.wrong(key, "is not a list of positive numbers")
        return tuple(float(value) for value in values)

    def choices(self, key: str, known: Collection[str | int]) -> tuple[str | int, ...]:
        """A list whose entries are all known."""
        values = self._list(key)
        unknown = [value for value in values if type(value) not in (str, int) or value not in known]
        if unknown:
            raise self.wrong(key, f"holds {unknown[0]!r:.40}; known are {', '.join(map(str, known))}")
        return tuple(values)

    def flag(self, key: str, default: bool) -> bool:
        return self._get(key, bool, default)

    def text(self, key: str, default: str | None = None) -> str:
        return self._get(key, str, default)

    def nested(self, key: str) -> "Fields | None":
        """An object inside, or None when it is absent or null."""
        value = self._look(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(key, "is not an object")
        inner = Fields(value, f"{self._name}: {key}")
        self._inner.append(inner)
        return inner

    def ids(self, key: str) -> tuple[int, ...]:
        """A token id or a list of them; empty when absent."""
        value = self._look(key)
        values = value if isinstance(value, list) else [] if value is None else [value]
        if not all(type(entry) is int and entry >= 0 for entry in values):
            raise self.wrong(key, "is neither a token id nor a list of them")
        return tuple(values)

    def id_lists(self, key: str) -> tuple[tuple[int, ...], ...]:
        """A list of lists of token ids, none of them empty; empty when absent."""
        values = self._list(key) if key in self else []
        for ids in values:
            if not (isinstance(ids, list) and ids and all(type(entry) is int and entry >= 0 for entry in ids)):
                raise self.wrong(key, "is not a list of lists of token ids")
        return tuple(map(tuple, values))

    def telling(self, neutral: Mapping[str, tuple[object, ...]]) -> tuple[str, ...]:
        """Which keys of `neutral` are there with a value that is neither null nor among those that do nothing."""
        told = ((key, self._look(key), values) for key, values in neutral.items())
        return tuple(key for key, value, values in told if value is not None and value not in values)

    def refuse_others(self, known: Collection[str], what: str) -> None:
        """Refuse every key beside the known ones that says something."""
        for key, value in self._content.items():
            if key not in known and value is not None:
                raise self.wrong(key, what)

    def refuse_unasked(self, neutral: Mapping[str, tuple[object, ...]], what: str) -> None:
        """Refuse a key of `neutral` that nobody asked for, unless its value is null or among those that do nothing.

        Objects inside are looked at too, once somebody asked for them.
        """
        for key, values in neutral.items():
            value = self._content.get(key)
            if key not in self._asked and value is not None and value not in values:
                raise self.wrong(key, f"is {value!r:.60}, {what}")
        for inner in self._inner:
            inner.refuse_unasked(neutral, what)

    def wrong(self, key: str, what: str) -> Exception:
        return load_failed(f"{self._name}: {key} {what}")

    def _look(self, key: str) -> object:
        self._asked.add(key)
        return self._content.get(key)

    def _list(self, key: str) -> list[Any]:
        value = self._look(key)
        if not isinstance(value, list):
            raise self.wrong(key, "is missing" if value is None else "is not a list")
        return value

    def _get(self, key: str, kind: type[Value], default: Value | None) -> Value:
        value = self._look(key)
        if value is None:
            if default is None:
                raise self.wrong(key, "is missing")
            return default
        if type(value) is not kind:
            raise self.wrong(key, f"is {value!r:.40}; {kind.__name__} is needed")
        return value
