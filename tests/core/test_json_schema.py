"""What a schema becomes before it is compiled: never wider than it was, and only schemas are touched."""

from typing import Any

import pytest

from common.core.json_schema import EXACT, settled


def test_formats_that_are_notes_are_left_out_wherever_schemas_stand() -> None:
    note, kept = {"type": "string", "format": "password"}, {"type": "string", "format": "uuid"}
    schema = {
        "properties": {"a": note, "format": note, "id": kept},
        "$defs": {"x": {"items": note}},
        "anyOf": [note, {"additionalProperties": note}],
        "items": [note, True],
        "additionalProperties": False,
    }
    plain = {"type": "string"}
    assert settled(schema) == {
        "properties": {"a": plain, "format": plain, "id": kept},
        "$defs": {"x": {"items": plain}},
        "anyOf": [plain, {"additionalProperties": plain}],
        "items": [plain, True],
        "additionalProperties": False,
    }


@pytest.mark.parametrize("value", [{"format": "password"}, [{"format": "password"}]])
@pytest.mark.parametrize("key", ["const", "default", "examples", "enum", "x-own"])
def test_values_are_no_schemas(key: str, value: Any) -> None:
    assert settled({key: value}) == {key: value}


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({"minimum": -(2**63), "maximum": 2**63 - 1}, {"minimum": -EXACT, "maximum": EXACT}),
        (
            {"exclusiveMinimum": -1e308, "exclusiveMaximum": 1e308},
            {"exclusiveMinimum": -EXACT, "exclusiveMaximum": EXACT},
        ),
        ({"minimum": -EXACT, "maximum": EXACT}, {"minimum": -EXACT, "maximum": EXACT}),
        ({"minimum": 0.5, "maximum": True}, {"minimum": 0.5, "maximum": True}),
    ],
)
def test_bounds_are_tightened_to_what_is_exact(said: dict[str, Any], kept: dict[str, Any]) -> None:
    assert settled(said) == kept


@pytest.mark.parametrize("said", [{"minimum": 10**30}, {"exclusiveMaximum": -1e30}, {"items": {"minimum": EXACT + 1}}])
def test_bounds_that_cannot_be_kept_are_refused(said: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"beyond 2\^53"):
        settled(said)


@pytest.mark.parametrize("schema", [True, 5, [], {"properties": 5, "items": 5, "anyOf": 5, "format": 5}])
def test_what_is_no_schema_is_left_to_the_compiler(schema: Any) -> None:
    assert settled(schema) == schema
