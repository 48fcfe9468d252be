"""Typed reading of a JSON object that a stranger wrote: every value is checked, every error names its key."""

from collections.abc import Mapping
from typing import TypeVar

from common.model.folder import load_failed

Value = TypeVar("Value", int, float, bool, str)


class Fields:
    """Keys of one JSON object. A key that is absent or null takes the default; without one it is an error."""

    def __init__(self, content: Mapping[str, object], name: str) -> None:
        self._content = content
        self._name = name

    def __contains__(self, key: str) -> bool:
        return self._content.get(key) is not None

    def size(self, key: str, default: int | None = None) -> int:
        """A whole number of at least 1."""
        value = self._get(key, int, default)
        if value < 1:
            raise self.wrong(key, f"is {value}; at least 1 is needed")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A positive finite number, written with or without a fraction."""
        if key in self and isinstance(self._content[key], int) and not isinstance(self._content[key], bool):
            value = float(self._get(key, int, None))
        else:
            value = self._get(key, float, default)
        if not 0 < value < float("inf"):
            raise self.wrong(key, f"is {value}; a positive number is needed")
        return value

    def flag(self, key: str, default: bool) -> bool:
        return self._get(key, bool, default)

    def text(self, key: str, default: str | None = None) -> str:
        return self._get(key, str, default)

    def nested(self, key: str) -> "Fields | None":
        """An object inside, or None when it is absent or null."""
        value = self._content.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(key, "is not an object")
        return Fields(value, f"{self._name}: {key}")

    def ids(self, key: str) -> tuple[int, ...]:
        """A token id or a list of them; empty when absent."""
        value = self._content.get(key)
        values = value if isinstance(value, list) else [] if value is None else [value]
        if not all(type(entry) is int and entry >= 0 for entry in values):
            raise self.wrong(key, "is neither a token id nor a list of them")
        return tuple(values)

    def wrong(self, key: str, what: str) -> Exception:
        return load_failed(f"{self._name}: {key} {what}")

    def _get(self, key: str, kind: type[Value], default: Value | None) -> Value:
        value = self._content.get(key)
        if value is None:
            if default is None:
                raise self.wrong(key, "is missing")
            return default
        if type(value) is not kind:
            raise self.wrong(key, f"is {value!r:.40}; {kind.__name__} is needed")
        return value
