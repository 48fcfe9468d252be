"""A JSON schema as answers can be held to it: without what only describes, and with bounds that are exact.

What is left out or tightened never lets an answer through that the schema itself would refuse, but for `format`s that
JSON Schema itself calls notes.
"""

from typing import Any

EXACT = 2**53
"""Beyond it, not every whole number is one of JSON's usual doubles; grammars of numbers end soon after."""

FORMATS = frozenset(
    {"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "unknown", "uri", "uuid"}
)
"""Those that are enforced. Others (`int64`, `password`, `path`) are in wide use, and notes to the reader."""

_SCHEMAS = frozenset({"additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then"})
_LISTS = frozenset({"allOf", "anyOf", "items", "oneOf", "prefixItems"})
_BY_NAME = frozenset({"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"})
_LEAST = frozenset({"minimum", "exclusiveMinimum"})
_MOST = frozenset({"maximum", "exclusiveMaximum"})


def settled(schema: Any) -> Any:
    """The schema to compile. Raises ValueError for bounds that nothing can keep exactly. As deep as the schema is."""
    if not isinstance(schema, dict):
        return schema
    return {key: _settled(key, value) for key, value in schema.items() if not _is_note(key, value)}


def _settled(key: str, value: Any) -> Any:
    if isinstance(value, list) and key in _LISTS:
        return [settled(each) for each in value]
    if isinstance(value, dict) and key in _BY_NAME:
        return {name: settled(each) for name, each in value.items()}
    if key in _SCHEMAS:
        return settled(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and key in _LEAST | _MOST and abs(value) > EXACT:
        if (value > 0) is (key in _LEAST):
            raise ValueError(f"{key}: {value} is beyond 2^53: it cannot be kept exactly")
        return -EXACT if key in _LEAST else EXACT
    return value


def _is_note(key: str, value: Any) -> bool:
    return key == "format" and isinstance(value, str) and value not in FORMATS
