"""What a call of one tool may look like, as rules of a grammar in Lark's notation."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from common.core.constraint import JSON_WHITE_SPACE
from common.core.errors import Unsupported
from common.core.json_schema import settled
from services.gateway.reading.parameters import kinds_of
from services.gateway.schema.body import invalid, violation
from services.gateway.schema.chat import FunctionTool

_KEY = re.compile(r"[^<>\s]+")
MAX_COUNTED_CHARS = 1024
"""Chosen: of a text whose length is counted while it is written; each length is a state of its own."""
DEFINITIONS = ("$defs", "definitions")
"""Where schemas keep what their references name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """How a kind of model spells a call: arguments as one object under `key`, or one by one where there is no key."""

    begin: str = ""
    end: str = ""
    key: str = ""
    edge: str = ""
    """What stands on both sides of a value that is spelled by itself."""
    between: str = "\n"

    def rules(self, name: str, tool: FunctionTool) -> list[str]:
        """Rule `name`, and those it needs. Raises Unsupported for a parameter that cannot be spelled."""
        return list(self._object(name, tool) if self.key else self._one_by_one(name, tool))

    def _object(self, name: str, tool: FunctionTool) -> Iterator[str]:
        opening = f'{self.begin}{{"name": {json.dumps(tool.name)}, "{self.key}": '
        yield f"{name}: {quoted(opening)} {name}_in {quoted('}' + self.end)}"
        yield f"{name}_in: {_json({'type': 'object', **(tool.parameters or {})})}"

    def _one_by_one(self, name: str, tool: FunctionTool) -> Iterator[str]:
        schema = tool.parameters or {}
        properties, required = schema.get("properties"), schema.get("required")
        wanted = properties if isinstance(properties, dict) else {}
        needed = required if isinstance(required, list) else []
        parts = [f"{name}_{number}{'' if key in needed else '?'}" for number, key in enumerate(wanted)]
        opening = f"{self.begin}<function={tool.name}>\n"
        yield " ".join([f"{name}:", quoted(opening), *parts, quoted(f"</function>{self.end}")])
        for number, key in enumerate(wanted):
            if _KEY.fullmatch(key) is None:
                raise Unsupported(
                    message=f"tool_choice cannot be enforced: {key[:40]!r} is no name of a parameter here"
                )
            part, begin, end = f"{name}_{number}", f"<parameter={key}>{self.edge}", f"{self.edge}</parameter>\n"
            yield f"{part}: {quoted(begin)} {part}_in{'' if _is_text(schema, key) else ' ' + quoted(end)}"
            yield from _value(f"{part}_in", schema, key, end)


def quoted(text: str) -> str:
    """A text as a grammar spells it."""
    return json.dumps(text, ensure_ascii=False)


def _value(name: str, schema: Mapping[str, Any], key: str, end: str) -> Iterator[str]:
    """A text up to the mark that ends it, or JSON."""
    if not _is_text(schema, key):
        shared = {place: schema[place] for place in DEFINITIONS if place in schema}
        yield f"{name}: {_json({**shared, **schema['properties'][key]})}"
    elif (choices := _choices(schema["properties"][key])) is not None:
        yield f"{name}: {' | '.join(quoted(choice + end) for choice in choices)}"
    else:
        yield f"{name}[suffix={quoted(end)}]: /(?s:.{_length(schema['properties'][key])})/"


def _is_text(schema: Mapping[str, Any], key: str) -> bool:
    """Whether a parameter stands there as it is. One without a type does."""
    kinds = kinds_of(schema, key)
    return "string" in kinds or not (kinds and isinstance(schema["properties"][key], dict))


def _choices(wanted: Any) -> list[str] | None:
    """The texts that it must be one of, where it must."""
    said = wanted.get("enum") if isinstance(wanted, dict) else None
    return said if isinstance(said, list) and said and all(isinstance(each, str) for each in said) else None


def _json(schema: Mapping[str, Any]) -> str:
    """Raises InvalidRequest for what no grammar can keep."""
    try:
        document = settled(dict(schema))
    except ValueError as error:
        raise invalid([violation("tools", f"parameters: {error}")]) from error
    return f"%json {json.dumps({**document, 'x-guidance': {'whitespace_pattern': JSON_WHITE_SPACE}})}"


def _length(wanted: Any) -> str:
    """How often any character may come, as a regex says it: what the schema allows, where that is little."""
    said = wanted.get("maxLength") if isinstance(wanted, dict) else None
    return f"{{0,{said}}}" if type(said) is int and 0 <= said <= MAX_COUNTED_CHARS else "*"
