"""Calls of tools in what a model writes, in the three common formats.

    hermes    <tool_call>{"name": ..., "arguments": {...}}</tool_call>, any number            Hermes, Qwen
    mistral   [TOOL_CALLS][{"name": ..., "arguments": {...}}, ...], or [TOOL_CALLS]name{...}  Mistral
    llama     {"name": ..., "parameters": {...}} as the whole answer, also after <|python_tag|>, separated by ;

A call is told when it is complete. What began like a call and is none comes as content: nothing a model wrote is lost.
"""

import json
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from services.gateway.reading.piece import Call, Content, Piece, PlainReader, Reader
from services.gateway.reading.spans import first_mark, held_back

MAX_HELD_CHARS = 256 << 10
"""Chosen: longer than any context's worth of one call; what is longer is content."""

_DECODER = json.JSONDecoder()


class ToolFormat(StrEnum):
    """How a model writes its calls."""

    HERMES = "hermes"
    MISTRAL = "mistral"
    LLAMA = "llama"
    NONE = "none"


def tool_reader(form: ToolFormat, names: frozenset[str]) -> Reader:
    """A reader of calls to tools called `names`."""
    match form:
        case ToolFormat.HERMES:
            return HermesReader(names)
        case ToolFormat.MISTRAL:
            return TailReader(names, ("[TOOL_CALLS]",), anywhere=True)
        case ToolFormat.LLAMA:
            return TailReader(names, ("<|python_tag|>", "{"), anywhere=False)
        case _:
            return PlainReader()


class HermesReader:
    """Calls between a pair of marks, content around them."""

    OPEN, CLOSE = "<tool_call>", "</tool_call>"

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._held = ""
        self._is_inside = False

    def push(self, text: str) -> list[Piece]:
        self._held += text
        pieces: list[Piece] = []
        while True:
            mark = self.CLOSE if self._is_inside else self.OPEN
            before, found, after = self._held.partition(mark)
            if not found:
                break
            pieces += self._call(before) if self._is_inside else _content(before)
            self._is_inside, self._held = not self._is_inside, after
        if self._is_inside:
            if len(self._held) > MAX_HELD_CHARS:
                pieces += self.finish()
            return pieces
        keep = held_back(self._held, (self.OPEN,))
        free, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return pieces + _content(free)

    def finish(self) -> list[Piece]:
        """A call whose closing mark never came counts where it is complete."""
        held, self._held, is_inside, self._is_inside = self._held, "", self._is_inside, False
        if not is_inside:
            return _content(held)
        calls = _complete(held, self._names)
        return list(calls) if calls else [Content(self.OPEN + held)]

    def _call(self, inner: str) -> list[Piece]:
        calls = _complete(inner, self._names)
        return list(calls) if calls else [Content(self.OPEN + inner + self.CLOSE)]


class TailReader:
    """Everything from a mark on is calls. `anywhere`: content may stand before it; else it must begin the answer."""

    def __init__(self, names: frozenset[str], marks: tuple[str, ...], *, anywhere: bool) -> None:
        self._names = names
        self._marks = marks
        self._is_anywhere = anywhere
        self._held = ""
        self._is_content = False
        self._is_inside = False

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
        calls = _complete(inner, self._names)
        return list(calls) if calls else _content(held)


def _complete(text: str, names: frozenset[str]) -> tuple[Call, ...]:
    """The calls that a text consists of; none where any part of it is something else."""
    calls: list[Call] = []
    try:
        calls.extend(_call(item, names) for item in _items(text.strip()))
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


def _call(item: Any, names: frozenset[str]) -> Call:
    """Raises ValueError or KeyError for what is no call of a known tool."""
    if not isinstance(item, dict):
        raise ValueError(item)  # noqa: TRY004 - one kind of trouble for the caller
    function = item.get("function")
    item = function if isinstance(function, dict) else item
    name = item["name"]
    arguments = item.get("arguments", item.get("parameters", {}))
    if not isinstance(name, str) or name not in names:
        raise ValueError(name)
    told = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    told.encode()
    return Call(name, told)


def _content(text: str) -> list[Piece]:
    return [Content(text)] if text else []
