"""From HTTP's ways to say what an answer must look like to the router's one."""

import json
from collections.abc import Iterator
from typing import Any

from protos.baton.v1 import types_pb2
from services.gateway.calls import calls_grammar
from services.gateway.routers import Model
from services.gateway.schema.body import invalid, violation
from services.gateway.schema.chat import ChatBody, NamedTool
from services.gateway.schema.sampling import SamplingBody
from services.gateway.turn import begins_in_thought

MAX_SOURCE_BYTES = 256 << 10
"""Chosen: four times what a router takes by default, and far below what fits into a message to it."""

Said = tuple[str, types_pb2.Constraint]
"""The field that said it, and what it said."""


def constraint_field(body: SamplingBody) -> str:
    """The field that says what the answer must look like; empty where none does."""
    said = [field for field, _constraint in _all(body)]
    if not said and isinstance(body, ChatBody) and body.tool_choice not in (None, "none", "auto"):
        return "tool_choice"
    return said[0] if said else ""


def constraint_of(body: SamplingBody) -> types_pb2.Constraint | None:
    """Raises InvalidRequest where several are asked for, or one cannot be read."""
    return _one(list(_all(body)))


def chat_constraint(body: ChatBody, model: Model) -> types_pb2.Constraint | None:
    """The same, and calls of tools that must be made. A model that thinks first may do so. Raises InvalidRequest."""
    after = model.thought_close if begins_in_thought(body, model) else ""
    said = list(_all(body))
    if isinstance(body.tool_choice, NamedTool) or body.tool_choice == "required":
        said.append(("tool_choice", _calls(body, model, after)))
    found = _one(said)
    if found is not None and after and model.hides_thoughts:
        told = f"nothing can be asked of an answer that begins in a thought, because {after} is a special token"
        raise invalid([violation(said[0][0], told)])
    if found is not None and said[0][0] != "tool_choice":
        found.after = after
    return found


def _one(said: list[Said]) -> types_pb2.Constraint | None:
    if len(said) > 1:
        raise invalid(
            [violation(field, "says what the answer must look like, and so does another") for field, _ in said]
        )
    if not said:
        return None
    field, constraint = said[0]
    if (size := constraint.ByteSize()) > MAX_SOURCE_BYTES:
        raise invalid([violation(field, f"{size} bytes, at most {MAX_SOURCE_BYTES}")])
    return constraint


def _all(body: SamplingBody) -> Iterator[Said]:
    wanted = body.response_format
    if wanted is not None and wanted.type != "text":
        if wanted.document is not None:
            yield "response_format", types_pb2.Constraint(json_schema=json.dumps(wanted.document))
        else:
            yield "response_format", types_pb2.Constraint(json_object=True)
    yield from _spelled("guided_", body.guided_json, body.guided_regex, body.guided_choice, body.guided_grammar)
    outputs = body.structured_outputs
    if outputs is not None:
        if outputs.json_object:
            yield "structured_outputs.json_object", types_pb2.Constraint(json_object=True)
        yield from _spelled("structured_outputs.", outputs.json_form, outputs.regex, outputs.choice, outputs.grammar)


def _spelled(
    prefix: str, document: dict[str, Any] | str | None, regex: str | None, choice: list[str] | None, grammar: str | None
) -> Iterator[Said]:
    if document is not None:
        source = document if isinstance(document, str) else json.dumps(document)
        yield f"{prefix}json", types_pb2.Constraint(json_schema=source)
    if regex is not None:
        yield f"{prefix}regex", types_pb2.Constraint(regex=regex)
    if choice is not None:
        yield f"{prefix}choice", types_pb2.Constraint(choice=types_pb2.Options(texts=choice))
    if grammar is not None:
        yield f"{prefix}grammar", types_pb2.Constraint(grammar=grammar)


def _calls(body: ChatBody, model: Model, after: str) -> types_pb2.Constraint:
    """Calls of the named tool, or of any."""
    tools = [tool.function for tool in body.tools or ()]
    if isinstance(body.tool_choice, NamedTool):
        tools = [tool for tool in tools if tool.name == body.tool_choice.function.name][:1]
    is_one = isinstance(body.tool_choice, NamedTool) or body.parallel_tool_calls is False
    return types_pb2.Constraint(grammar=calls_grammar(model, tools, is_one=is_one, after=after))
