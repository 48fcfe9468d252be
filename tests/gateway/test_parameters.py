"""Arguments that are spelled one by one: the tool's schema says which are texts."""

import json
import time
from typing import Any

import pytest

from services.gateway.reading.parameters import kinds_of, spelled_calls

PLACE = {"type": "object", "properties": {"city": {"type": "string"}}}
COLOUR = {"enum": ["red", "5"]}
SCHEMA: dict[str, Any] = {
    "properties": {
        "text": {"type": "string"},
        "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "count": {"type": "integer"},
        "share": {"type": "number"},
        "is_open": {"type": "boolean"},
        "tags": {"type": "array"},
        "place": {"$ref": "#/$defs/Place"},
        "colour": {"$ref": "#/$defs/Colour"},
        "loop": {"$ref": "#/$defs/Loop"},
        "unsaid": {},
        "any": True,
    },
    "$defs": {"Place": PLACE, "Colour": COLOUR, "Loop": {"$ref": "#/$defs/Loop"}},
}


def called(**arguments: str) -> object:
    written = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in arguments.items())
    [call] = spelled_calls(f"\n<function=f>\n{written}</function>\n", {"f": SCHEMA})
    return json.loads(call.arguments)


@pytest.mark.parametrize(
    ("key", "written", "read"),
    [
        ("text", "5", "5"),
        ("text", "null", "null"),
        ("text", '{"a": 1}', '{"a": 1}'),
        ("text", "  two\n\nlines ", "  two\n\nlines "),
        ("text", "a </parameter> b", "a </parameter> b"),
        ("text", "<b>&amp;</b>", "<b>&amp;</b>"),
        ("maybe", "null", None),
        ("maybe", "no", "no"),
        ("count", "5", 5),
        ("count", " 5 ", 5),
        ("count", "five", "five"),
        ("count", "9" * 5000, "9" * 5000),
        ("share", "0.5", 0.5),
        ("share", "NaN", "NaN"),
        ("is_open", "true", True),
        ("is_open", "False", False),
        ("tags", '["a", 1]', ["a", 1]),
        ("tags", "a, b", "a, b"),
        ("place", '{"city": "Brno"}', {"city": "Brno"}),
        ("colour", "5", "5"),
        ("loop", "5", "5"),
        ("unsaid", "5", "5"),
        ("unsaid", '{"a": 1}', {"a": 1}),
        ("any", "[1]", [1]),
        ("unknown", "true", "true"),
    ],
)
def test_a_text_stays_as_it_is_and_everything_else_is_json(key: str, written: str, read: object) -> None:
    assert called(**{key: written}) == {key: read}


def test_several_calls_and_none_at_all() -> None:
    one = "<function=f><parameter=count>1</parameter></function>"
    tools = {"f": SCHEMA, "g": {}}
    assert [call.name for call in spelled_calls(f"{one}\n<function=g>\n</function>", tools)] == ["f", "g"]
    assert spelled_calls(" \n", tools) == ()


@pytest.mark.parametrize(
    "text",
    [
        "<function=f>",
        "<function=h></function>",
        "<function=f></function> and more",
        "<function=f>words</function>",
        "<function=f><parameter=count>1</function>",
        '<function=f><parameter=tags>["\\ud800"]</parameter></function>',
        "<function=f><parameter=share>1e999</parameter></function>",
    ],
)
def test_what_is_no_call_is_none(text: str) -> None:
    assert spelled_calls(text, {"f": SCHEMA}) == ()


@pytest.mark.parametrize(
    "schema", [{}, {"properties": 5}, {"properties": {"a": {"type": 5}}}, {"properties": {"a": []}}]
)
def test_a_schema_that_says_nothing_says_no_kind(schema: dict[str, Any]) -> None:
    assert kinds_of(schema, "a") == frozenset()


@pytest.mark.parametrize(
    "text", ["<parameter=a>", "<parameter=a></parameter> ", "</parameter>" + " " * 500, "<function=f>"]
)
def test_reading_takes_time_in_proportion_to_the_text(text: str) -> None:
    """What a model wrote is a stranger's word, too: nothing of it may hold up the other streams."""
    written = "<function=f>" + text * (200_000 // len(text))
    began = time.process_time()
    spelled_calls(written, {"f": SCHEMA})
    assert time.process_time() - began < 2
