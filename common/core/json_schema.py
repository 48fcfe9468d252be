"""A JSON schema as answers can be held to it: without what only describes, and with bounds that are exact.

What is left out or tightened never lets an answer through that the schema itself would refuse, but for `format`s that
JSON Schema itself calls notes.
"""

from typing import Any

from common.core.json_pattern import check_pattern

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
_BESIDE_ZERO = {"exclusiveMinimum": 1e-15, "exclusiveMaximum": -1e-15}
"""The engine lets 0 itself through where a range within 1 ends at it. Chosen: doubles about 1 differ by less."""
_NOTHING: dict[str, tuple[Any, ...]] = {
    "uniqueItems": (False,),
    "propertyNames": (True, {}, {"type": "string"}),
    "unevaluatedItems": (True, {}),
    "unevaluatedProperties": (True, {}),
}
"""Values with which a keyword asks for nothing. Libraries write them: every name of a property is a string."""


def settled(schema: Any) -> Any:
    """The schema to compile. Raises ValueError for what nothing can keep exactly. As deep as the schema is."""
    if not isinstance(schema, dict):
        return schema
    _check_names(schema)
    kept = {key: _settled(key, value) for key, value in schema.items() if not _says_nothing(key, value)}
    return kept if schema.get("type") == "integer" else kept | _beside_zero(kept)


def _settled(key: str, value: Any) -> Any:
    if isinstance(value, list) and key in _LISTS:
        return [settled(each) for each in value]
    if isinstance(value, dict) and key in _BY_NAME:
        return {name: settled(each) for name, each in value.items()}
    if key in _SCHEMAS:
        return settled(value)
    if key in ("const", "enum"):
        _check_exact(key, value)
    if key == "pattern" and isinstance(value, str):
        check_pattern(value)
    if key in _LEAST | _MOST and _is_number(value) and abs(value) > EXACT:
        if (value > 0) is (key in _LEAST):
            raise ValueError(f"{key}: {value} is beyond 2^53: it cannot be kept exactly")
        return -EXACT if key in _LEAST else EXACT
    return value


def _beside_zero(schema: dict[str, Any]) -> dict[str, float]:
    return {key: near for key, near in _BESIDE_ZERO.items() if _is_number(schema.get(key)) and schema[key] == 0}


def _says_nothing(key: str, value: Any) -> bool:
    is_note = key == "format" and isinstance(value, str) and value not in FORMATS
    return is_note or any(type(value) is type(each) and value == each for each in _NOTHING.get(key, ()))


def _check_exact(key: str, value: Any) -> None:
    """Numbers inside a value come as doubles."""
    if isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            _check_exact(key, each)
    elif _is_number(value) and abs(value) > EXACT:
        raise ValueError(f"{key}: {value} is beyond 2^53: it cannot be kept exactly; write it as a string")


def _check_names(schema: dict[str, Any]) -> None:
    """Names that nobody listed may come twice, and a reader counts them once."""
    least: Any = schema.get("minProperties")
    required, patterns = schema.get("required"), schema.get("patternProperties")
    num_listed = len(set(map(str, required))) if isinstance(required, list) else 0
    is_open = schema.get("additionalProperties") is not False or bool(patterns)
    if is_open and _is_number(least) and least > num_listed + 1:
        raise ValueError(f"minProperties: {least} cannot be kept while names may repeat: list them as required")
    for pattern in patterns if isinstance(patterns, dict) else ():
        check_pattern(pattern)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
