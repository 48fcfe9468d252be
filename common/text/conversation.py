"""A conversation as clients send it: turns, the tools that the model may call, and whether it may think aloud."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

ROLES = ("system", "user", "assistant", "tool")
MAX_MESSAGES = 10_000
MAX_TOOLS = 128
MAX_TOOLS_CHARS = 64 << 10
"""Chosen: more than any context holds, as many tools as OpenAI takes, and 512 characters for each of these."""

MAX_DEPTH = 32
"""Chosen: deeper than schemas that people write; templates and grammars recurse over it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call that the assistant asked for in an earlier turn. `arguments` is JSON, as the model wrote it."""

    id: str
    name: str
    arguments: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One turn."""

    role: str
    content: str
    name: str = ""
    tool_call_id: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""
    """What the assistant thought before it said so."""

    @property
    def num_chars(self) -> int:
        return len(self.content) + len(self.reasoning) + sum(len(call.arguments) for call in self.tool_calls)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What a chat template is given. `tools_json`: a JSON list of tools as OpenAI describes them, or empty.

    `opens_answer`: the template begins the next turn. `continues_last`: it goes on within the last one instead.
    """

    messages: tuple[ChatMessage, ...]
    tools_json: str = ""
    enable_thinking: bool | None = None
    opens_answer: bool = True
    continues_last: bool = False

    @property
    def num_chars(self) -> int:
        """What rendering it costs, roughly."""
        return sum(message.num_chars for message in self.messages) + len(self.tools_json)


@dataclass(frozen=True, slots=True)
class ToolsTrouble(Exception):
    """Why a list of tools cannot be used, and where."""

    field: str
    why: str


def read_tools(tools_json: str) -> tuple[Mapping[str, Any], ...]:
    """The tools as objects, their shape checked. Raises ToolsTrouble."""
    if not tools_json:
        return ()
    if len(tools_json) > MAX_TOOLS_CHARS:
        raise ToolsTrouble("tools", f"{len(tools_json)} characters, at most {MAX_TOOLS_CHARS}")
    try:
        tools = json.loads(tools_json)
    except (ValueError, RecursionError) as error:
        raise ToolsTrouble("tools", "is no JSON") from error
    if not isinstance(tools, list) or len(tools) > MAX_TOOLS:
        raise ToolsTrouble("tools", f"must be a list of at most {MAX_TOOLS}")
    if depth(tools) > MAX_DEPTH:
        raise ToolsTrouble("tools", f"is nested deeper than {MAX_DEPTH}")
    for index, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or tool.get("type") != "function":
            raise ToolsTrouble(f"tools[{index}]", "must be an object of type function with a function")
        if not _is_name(function.get("name")):
            raise ToolsTrouble(f"tools[{index}].function.name", "1 to 64 letters, digits, _ and -")
        if not isinstance(function.get("parameters", {}), dict):
            raise ToolsTrouble(f"tools[{index}].function.parameters", "must be a JSON schema, an object")
    return tuple(tools)


def depth(value: object) -> int:
    """How deep lists and objects are nested; without recursion, because the value is a stranger's."""
    deepest, level = 0, [value]
    while level and deepest <= MAX_DEPTH:
        deepest += 1
        level = [child for item in level for child in _children(item)]
    return deepest


def _children(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _is_name(name: object) -> bool:
    return (
        isinstance(name, str)
        and 0 < len(name) <= 64
        and name.isascii()
        and name.replace("_", "").replace("-", "").isalnum()
    )
