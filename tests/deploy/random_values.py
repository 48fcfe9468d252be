"""Values that the chart's schema admits, drawn at random: a few settings at a time, beside the defaults."""

import json
import random
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.deploy.chart import CHART

Schema = Mapping[str, Any]
WORDS = (
    *("", "a", "name-1", "0123", "1e3", "0x10", "true", "null", "~", "no", "1.5", "10Gi", "100Mi", "250m", "5m", "0.5"),
    *("a: b", "a #b", "- a", "*a", "&a", "!a", "%a", "@a", "`a`", "{a", "[a", "{{ .Values }}", 'a"b', "a'b", "a\\b"),
    *("two\nlines", "end\n", " begins", "tab\there", "grün", "$(POD_IP)", "https://example.com:8443/x", "a/b", "a,b"),
    *("hf://org/name", "file:///models/x", "pvc://claim/x", "s3://bucket/x", "image://registry/x:1"),
    "sha256:" + "0" * 64,
)
"""Of those that a pattern admits. Most mean something else to YAML where nobody quotes them."""


def leaves(schema: Schema, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Schema]]:
    """Every setting whose type says what it may be."""
    for name, each in schema.get("properties", {}).items():
        if "properties" in each:
            yield from leaves(each, (*path, name))
        elif "$ref" not in each and each.get("type") not in ("object", "array", None):
            yield (*path, name), each


def chart_schema() -> Schema:
    schema: Schema = json.loads((CHART / "values.schema.json").read_text())
    return schema


def draw(schema: Schema, chance: random.Random, num_settings: int) -> dict[str, Any]:
    """A few settings, nested as values are."""
    values: dict[str, Any] = {}
    for path, each in chance.sample(list(leaves(schema)), num_settings):
        inner = values
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = _value(each, chance)
    return values


def _value(schema: Schema, chance: random.Random) -> Any:
    if "enum" in schema:
        return chance.choice(schema["enum"])
    types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    match chance.choice([each for each in types if each not in ("object", "array")]):
        case "boolean":
            return chance.random() < 0.5
        case "null":
            return None
        case "string":
            return chance.choice([word for word in WORDS if re.search(schema.get("pattern", ""), word)])
        case "integer":
            return _number(schema, chance)
        case "number":
            return _number(schema, chance) if chance.random() < 0.5 else float(_number(schema, chance))
        case other:
            raise AssertionError(other)


def _number(schema: Schema, chance: random.Random) -> int:
    """The limits, and what lies near."""
    low, high = int(schema.get("minimum", -1)), int(schema.get("maximum", 1 << 40))
    return chance.choice([low, high, min(high, low + 1), chance.randint(low, min(high, low + 1000))])
