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
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, assert_never

from services.gateway.reading.parameters import spelled_calls
from services.gateway.reading.piece import Call, Content, Piece, PlainReader, Reader
from services.gateway.reading.spans import first_mark, held_back
from services.gateway.reading.tool import Tools

MAX_HELD_CHARS = 256 << 10
"""Chosen: longer than any context's worth of one call; what is longer is content."""

_DECODER = json.JSONDecoder()


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
            return PairReader(tools, "<tool_call>", "</tool_call>", _complete)
        case ToolFormat.XML:
            return PairReader(tools, "<tool_call>", "</tool_call>", spelled_calls, bare="<function=")
        case ToolFormat.SEED:
            return PairReader(tools, "<seed:tool_call>", "</seed:tool_call>", spelled_calls)
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


class PairReader:
    """Calls between a pair of marks, content around them. `bare`: how a call begins whose opening mark was left out."""

    def __init__(
        self, tools: Tools, begin: str, end: str, read: Callable[[str, Tools], tuple[Call, ...]], *, bare: str = ""
    ) -> None:
        self._tools = tools
        self._begins = (begin, bare) if bare else (begin,)
        self._end = end
        self._read = read
        self._begin = begin
        """How the call began that is being read."""
        self._held = ""
        self._is_inside = False

    @property
    def is_in_call(self) -> bool:
        return self._is_inside

    def push(self, text: str) -> list[Piece]:
        self._held += text
        pieces: list[Piece] = []
        while (found := first_mark(self._held, (self._end,) if self._is_inside else self._begins)) is not None:
            at, mark = found
            before, self._held = self._held[:at], self._held[at + len(mark) :]
            if self._is_inside:
                pieces += self._calls(before, mark)
            else:
                pieces += _content(before)
                self._begin = mark
            self._is_inside = not self._is_inside
        if self._is_inside:
            if len(self._held) > MAX_HELD_CHARS:
                pieces += self.finish()
            return pieces
        keep = held_back(self._held, self._begins)
        free, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return pieces + _content(free)

    def finish(self) -> list[Piece]:
        """A call whose closing mark never came counts where it is complete."""
        held, self._held, is_inside, self._is_inside = self._held, "", self._is_inside, False
        return self._calls(held) if is_inside else _content(held)

    def _calls(self, inner: str, end: str = "") -> list[Piece]:
        is_bare = self._begin != self._begins[0]
        calls = self._read(self._begin + inner if is_bare else inner, self._tools)
        return list(calls) if calls else [Content(self._begin + inner + end)]


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
            return _content(text)
        self._held += text
        if self._is_inside:
            return self.finish() if len(self._held) > MAX_HELD_CHARS else []
        found = first_mark(self._held, self._marks)
        if found and (self._is_anywhere or not self._held[: found[0]].strip()):
            at = found[0] if self._is_anywhere else 0
            before, self._held = self._held[:at], self._held[at:]
            self._is_inside = True
            return _content(before)
        keep = held_back(self._held, self._marks)
        if not self._is_anywhere:
            if not self._held[: len(self._held) - keep].strip():
                return []  # white space so far
            self._is_content, keep = True, 0
        free, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return _content(free)

    def finish(self) -> list[Piece]:
        held, self._held = self._held, ""
        if not self._is_inside:
            return _content(held)
        self._is_inside, self._is_content = False, True
        inner = held
        for mark in self._marks:
            if mark != "{":
                inner = inner.replace(mark, " ")
        calls = _complete(inner, self._tools)
        return list(calls) if calls else _content(held)


def _complete(text: str, tools: Tools) -> tuple[Call, ...]:
    """The calls that a text consists of; none where any part of it is something else."""
    calls: list[Call] = []
    try:
        calls.extend(_call(item, tools) for item in _items(text.strip()))
    except (ValueError, KeyError, RecursionError):  # half a surrogate pair is a ValueError too
        return ()
    return tuple(calls)


def _items(text: str) -> Iterator[Any]:
    """JSON values one after the other, with commas or semicolons between; `name{...}` is Mistral's newer spelling."""
    while text:
        name = ""
        if text[0] not in "{[":
            name, brace, rest = text.partition("{")
            if not brace:
                raise ValueError(text)
            text = brace + rest
        value, end = _DECODER.raw_decode(text)
        text = text[end:].lstrip(" \t\r\n,;")
        if name:
            yield {"name": name.strip().removesuffix("[ARGS]"), "arguments": value}
        elif isinstance(value, list):
            yield from value
        else:
            yield value


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


def _content(text: str) -> list[Piece]:
    return [Content(text)] if text else []
