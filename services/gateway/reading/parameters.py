"""Calls whose arguments are spelled one by one, as Qwen 3 Coder and Seed-OSS write them.

    <function=NAME>
    <parameter=KEY>
    value
    </parameter>
    </function>

A text stands there as it is, everything else as JSON: which it is, the tool's own schema says.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from services.gateway.reading.piece import Call
from services.gateway.reading.tool import Tools

_FUNCTION = re.compile(r"\s*<function=([^>\n]*)>")
_PARAMETER = re.compile(r"\s*<parameter=([^>\n]*)>(.*?)</parameter>(?=\s*(?:<parameter=|</function>|\Z))", re.DOTALL)
_END = re.compile(r"\s*</function>")
_NOTHING = re.compile(r"\s*\Z")
_NAMED = {"None": None, "True": True, "False": False}
"""Python's names, which models write for JSON's."""

MAX_REFERENCES = 8
"""Chosen: how many references are followed to a type; they may go in circles."""


def spelled_calls(text: str, tools: Tools) -> tuple[Call, ...]:
    """The calls that a text consists of; none where any part of it is something else."""
    calls: list[Call] = []
    at = 0
    while _NOTHING.match(text, at) is None:
        found = _FUNCTION.match(text, at)
        if found is None or (name := found[1].strip()) not in tools:
            return ()
        at = found.end()
        arguments: dict[str, Any] = {}
        while (parameter := _PARAMETER.match(text, at)) is not None:
            key = parameter[1].strip()
            arguments[key] = read_value(parameter[2].removeprefix("\n").removesuffix("\n"), key, tools[name])
            at = parameter.end()
        if (end := _END.match(text, at)) is None:
            return ()
        at = end.end()
        try:
            told = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
            told.encode()
        except ValueError:  # endless numbers, half characters
            return ()
        calls.append(Call(name, told))
    return tuple(calls)


def is_within_value(text: str) -> bool:
    """Whether the beginning of a call stops within a parameter."""
    return text.rfind("<parameter=") > text.rfind("</parameter>")


def read_value(text: str, key: str, schema: Mapping[str, Any]) -> Any:
    """What a parameter's text stands for; itself, where it is not what the schema says."""
    kinds = kinds_of(schema, key)
    if "null" in kinds and text.strip() in ("null", "None"):
        return None
    if "string" in kinds or not (kinds or text.lstrip()[:1] in ("{", "[")):
        return text
    try:
        return _NAMED[text.strip()] if text.strip() in _NAMED else json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def kinds_of(schema: Mapping[str, Any], key: str) -> frozenset[str]:
    """JSON's types that a tool's schema allows a parameter; empty where it does not say."""
    properties = schema.get("properties")
    wanted = properties.get(key) if isinstance(properties, dict) else None
    return frozenset(_kinds(wanted, schema, MAX_REFERENCES))


def _kinds(wanted: Any, root: Mapping[str, Any], left: int) -> set[str]:
    if not isinstance(wanted, dict) or left == 0:
        return set()
    said = wanted.get("type")
    if said is not None:
        return {kind for kind in (said if isinstance(said, list) else [said]) if isinstance(kind, str)}
    values = wanted["enum"] if isinstance(wanted.get("enum"), list) else [wanted["const"]] if "const" in wanted else []
    if values:
        return {_kind(value) for value in values}
    ways = [way for name in ("anyOf", "oneOf", "allOf") if isinstance(wanted.get(name), list) for way in wanted[name]]
    if isinstance(wanted.get("$ref"), str):
        ways.append(_named(root, wanted["$ref"]))
    return {kind for way in ways[:MAX_REFERENCES] for kind in _kinds(way, root, left - 1)}


def _named(root: Mapping[str, Any], reference: str) -> Any:
    """What `#/$defs/NAME` means, which is how libraries write references."""
    place, _, name = reference.removeprefix("#/").partition("/")
    definitions = root.get(place)
    return definitions.get(name) if isinstance(definitions, dict) else None


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no JSON")
