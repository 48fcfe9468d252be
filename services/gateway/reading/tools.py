"""Calls of tools in what a model writes, in the common formats.

    hermes    <tool_call>{"name": ..., "arguments": {...}}</tool_call>, any number            Hermes, Qwen
    xml       <tool_call><function=NAME><parameter=KEY>value</parameter></function></tool_call>    Qwen 3 Coder
    seed      the same within <seed:tool_call>                                                Seed-OSS
    granite   <|tool_call|>[{"name": ..., "arguments": {...}}, ...]                           Granite 3
    mistral   [TOOL_CALLS][{"name": ..., "arguments": {...}}, ...], or [TOOL_CALLS]name{...}  Mistral
    llama     {"name": ..., "parameters": {...}} as the whole answer, also after <|python_tag|>, separated by ;

A call is told when it is complete. What began like a call and is none comes as content: nothing a model wrote is lost.
"""

import json
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, assert_never

from services.gateway.reading.pair import PairReader, Spelling
from services.gateway.reading.parameters import is_within_value, spelled_calls
from services.gateway.reading.piece import Call, Piece, PlainReader, Reader, content
from services.gateway.reading.spans import MAX_HELD_CHARS, first_mark, held_back
from services.gateway.reading.tool import Tools

_DECODER = json.JSONDecoder()
_ESCAPED = re.compile(r"\\.", re.DOTALL)


class ToolFormat(StrEnum):
    """How a model writes its calls."""

    HERMES = "hermes"
    XML = "xml"
    SEED = "seed"
    GRANITE = "granite"
    MISTRAL = "mistral"
    LLAMA = "llama"
    NONE = "none"


def tool_reader(form: ToolFormat, tools: Tools) -> Reader:
    """A reader of calls to these tools."""
    match form:
        case ToolFormat.HERMES:
            return PairReader(tools, HERMES)
        case ToolFormat.XML:
            return PairReader(tools, XML)
        case ToolFormat.SEED:
            return PairReader(tools, SEED)
        case ToolFormat.GRANITE:
            return TailReader(tools, ("<|tool_call|>",), anywhere=True)
        case ToolFormat.MISTRAL:
            return TailReader(tools, ("[TOOL_CALLS]",), anywhere=True)
        case ToolFormat.LLAMA:
            return TailReader(tools, ("<|python_tag|>", "{"), anywhere=False)
        case ToolFormat.NONE:
            return PlainReader()
        case _:
            assert_never(form)


class TailReader:
    """Everything from a mark on is calls. `anywhere`: content may stand before it; else it must begin the answer."""

    def __init__(self, tools: Tools, marks: tuple[str, ...], *, anywhere: bool) -> None:
        self._tools = tools
        self._marks = marks
        self._is_anywhere = anywhere
        self._held = ""
        self._is_content = False
        self._is_inside = False

    @property
    def is_in_call(self) -> bool:
        return self._is_inside

    def push(self, text: str) -> list[Piece]:
        if self._is_content:
            return content(text)
        self._held += text
        if self._is_inside:
            return self.finish() if len(self._held) > MAX_HELD_CHARS else []
        found = first_mark(self._held, self._marks)
        if found and (self._is_anywhere or not self._held[: found[0]].strip()):
            at = found[0] if self._is_anywhere else 0
            before, self._held = self._held[:at], self._held[at:]
            self._is_inside = True
            return content(before)
        keep = held_back(self._held, self._marks)
        if not self._is_anywhere:
            if not self._held[: len(self._held) - keep].strip():
                return []  # white space so far
            self._is_content, keep = True, 0
        free, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return content(free)

    def finish(self) -> list[Piece]:
        held, self._held = self._held, ""
        if not self._is_inside:
            return content(held)
        self._is_inside, self._is_content = False, True
        calls = _complete(held, self._tools, self._marks)
        return list(calls) if calls else content(held)


def _complete(text: str, tools: Tools, marks: tuple[str, ...] = ()) -> tuple[Call, ...]:
    """The calls that a text consists of, after `marks` or not; none where any part of it is something else."""
    calls: list[Call] = []
    try:
        calls.extend(_call(item, tools) for item in _items(text, marks))
    except (ValueError, KeyError, RecursionError):  # half a surrogate pair is a ValueError too
        return ()
    return tuple(calls)


def _items(text: str, marks: tuple[str, ...]) -> Iterator[Any]:
    """JSON values one after the other, with commas, semicolons or marks between; `name{...}` is Mistral's newer
    spelling. A mark within a value is a word of it."""
    while text := _from_next(text, marks):
        name = ""
        if text[0] not in "{[":
            name, brace, rest = text.partition("{")
            if not brace:
                raise ValueError(text)
            text = brace + rest
        value, end = _DECODER.raw_decode(text)
        text = text[end:].lstrip(" \t\r\n,;")
        if name:
            yield {"name": name.removesuffix("[ARGS]").partition("[CALL_ID]")[0].strip(), "arguments": value}
        elif isinstance(value, list):
            yield from value
        else:
            yield value


def _from_next(text: str, marks: tuple[str, ...]) -> str:
    """From where the next value begins."""
    while found := first_mark(text, marks):
        at, mark = found
        if mark == "{" or text[:at].strip():
            break
        text = text[at + len(mark) :]
    return text.strip()


def _call(item: Any, tools: Tools) -> Call:
    """Raises ValueError or KeyError for what is no call of a known tool."""
    if not isinstance(item, dict):
        raise ValueError(item)  # noqa: TRY004 - one kind of trouble for the caller
    function = item.get("function")
    item = function if isinstance(function, dict) else item
    name = item["name"]
    arguments = item.get("arguments", item.get("parameters", {}))
    if not isinstance(name, str) or name not in tools:
        raise ValueError(name)
    told = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    told.encode()
    return Call(name, told)


def _is_within_text(text: str) -> bool:
    """Whether a piece of JSON stops between the quotes of a text."""
    return _ESCAPED.sub("", text).count('"') % 2 == 1


HERMES = Spelling(begin="<tool_call>", end="</tool_call>", calls=_complete, is_open=_is_within_text)
XML = Spelling(begin="<tool_call>", end="</tool_call>", bare="<function=", calls=spelled_calls, is_open=is_within_value)
SEED = Spelling(begin="<seed:tool_call>", end="</seed:tool_call>", calls=spelled_calls, is_open=is_within_value)
