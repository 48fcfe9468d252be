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


@pytest.mark.parametrize("key", ["const", "enum"])
@pytest.mark.parametrize("number", [EXACT + 1, -(10**18), 1e100])
def test_values_with_numbers_that_would_be_rounded_are_refused(key: str, number: float) -> None:
    """Ids of eighteen digits came back with zeros at their end."""
    for value in ([number], [{"id": number}]):
        with pytest.raises(ValueError, match=rf"{key}: .* is beyond 2\^53: .* write it as a string"):
            settled({"items": {key: value}})
    assert settled({key: [EXACT, "1" * 30, True, None]}) == {key: [EXACT, "1" * 30, True, None]}


def test_a_range_that_ends_beside_zero_keeps_a_distance() -> None:
    assert settled({"exclusiveMinimum": 0, "maximum": 0.5}) == {"exclusiveMinimum": 1e-15, "maximum": 0.5}
    assert settled({"exclusiveMaximum": -0.0}) == {"exclusiveMaximum": -1e-15}
    for kept in ({"type": "integer", "exclusiveMinimum": 0}, {"exclusiveMinimum": False}, {"minimum": 0}):
        assert settled(kept) == kept


@pytest.mark.parametrize(
    ("key", "nothing", "something"),
    [
        ("uniqueItems", [False], [True, 0]),
        ("propertyNames", [True, {}, {"type": "string"}], [{"pattern": "^a"}]),
        ("unevaluatedProperties", [True, {}], [False, {"type": "string"}]),
        ("unevaluatedItems", [True, {}], [False]),
    ],
)
def test_keywords_that_ask_for_nothing_are_left_out(key: str, nothing: list[Any], something: list[Any]) -> None:
    for value in nothing:
        assert settled({"items": {key: value}}) == {"items": {}}
    for value in something:
        assert settled({key: value}) == {key: value}


def test_more_names_than_are_listed_cannot_be_counted() -> None:
    """An answer may say a name twice, and whoever reads it sees one property."""
    for schema in ({"minProperties": 2}, {"minProperties": 2, "patternProperties": {"^x": {}}}):
        with pytest.raises(ValueError, match="minProperties: 2 cannot be kept while names may repeat"):
            settled(schema)
    for schema in (
        {"minProperties": 1},
        {"minProperties": 2, "required": ["a"]},
        {"minProperties": 2, "additionalProperties": False},
    ):
        assert settled(schema) == schema


@pytest.mark.parametrize("schema", [True, 5, [], {"properties": 5, "items": 5, "anyOf": 5, "format": 5}])
def test_what_is_no_schema_is_left_to_the_compiler(schema: Any) -> None:
    assert settled(schema) == schema
