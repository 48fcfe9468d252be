"""Calls of tools as each kind of model takes them: a grammar for requests that must be answered with one, and ids."""

import json
from collections.abc import Sequence

from common.core.constraint import JSON_WHITE_SPACE
from common.core.entropy import Entropy, mint_name
from common.core.errors import Unsupported
from services.gateway.reading.tools import ToolFormat
from services.gateway.schema.chat import FunctionTool

MAX_CALLS = 16
"""Chosen: in one answer. A weak model would otherwise call until its tokens are spent."""


def mint_call(entropy: Entropy, form: ToolFormat) -> str:
    """An id for a call. Templates of Mistral's take nine letters and digits, and nothing else, when it comes back."""
    return f"{entropy.bits(36):09x}" if form is ToolFormat.MISTRAL else mint_name(entropy, "call")


def calls_grammar(form: ToolFormat, tools: Sequence[FunctionTool], *, is_one: bool, after: str) -> str:
    """In Lark's notation. `after`: a mark that ends the thought which comes first. Raises Unsupported."""
    match form:
        case ToolFormat.HERMES:
            begin, key, end, between = "<tool_call>\n", "arguments", "\n</tool_call>", "\n"
        case ToolFormat.LLAMA:
            begin, key, end, between = "", "parameters", "", "; "
        case _:
            raise Unsupported(message=f"tool_choice cannot be enforced for the {form} format: use auto")
    names = [f"call{number}" for number in range(len(tools))]
    more = "" if is_one else f" ({_text(between)} call){{0,{MAX_CALLS - 1}}}"
    lines = [f"start: {'thought space ' if after else ''}call{more}", f"call: {' | '.join(names)}"]
    if after:
        lines += [f"thought[suffix={_text(after)}]: /(?s:.*)/", r"space: /\n{0,2}/"]
    for name, tool in zip(names, tools, strict=True):
        opening = f'{begin}{{"name": {json.dumps(tool.name)}, "{key}": '
        lines.append(f"{name}: {_text(opening)} {name}_in {_text('}' + end)}")
        lines.append(f"{name}_in: %json {json.dumps(_arguments(tool))}")
    return "\n".join(lines) + "\n"


def _arguments(tool: FunctionTool) -> dict[str, object]:
    return {"type": "object", **(tool.parameters or {}), "x-guidance": {"whitespace_pattern": JSON_WHITE_SPACE}}


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
